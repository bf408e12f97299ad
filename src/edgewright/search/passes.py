"""Runs passes one after another, each with what it declares it needs beside the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode_stored, encode
from edgewright.core.digest import digest_json
from edgewright.core.recipe import StepSpec
from edgewright.data import code_digest
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Result
from edgewright.errors import ConfigError, UsageError
from edgewright.search.imported import KINDS, Imported
from edgewright.search.places import Place
from edgewright.store.files import digest_path

Made = Callable[[StepSpec, Result], None]
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Pricing:
    """Where the costs of channels are measured.

    Attributes:
        target: Compiles what is timed.
        threads: It runs with so many.
        place: Where that is.
    """

    target: StepSpec
    threads: int
    place: Place


@dataclass(frozen=True, slots=True)
class PassRunner:
    """Where passes run.

    Attributes:
        executor: Runs and caches the steps.
        data: The project's data, held against the model's inputs; None where there is no project.
        calibration_limit: Most calibration samples to use.
        pricing: Where a pass that chooses by cost has it measured; None where that is not known.
    """

    executor: Executor
    data: Input | None
    calibration_limit: int | None = None
    pricing: Pricing | None = None

    def run(self, model: Result, passes: Sequence[StepSpec], made: Made | None = None) -> Result:
        """Runs `passes` on `model`.

        Args:
            model: The imported model: the teacher of passes that distil.
            passes: In order.
            made: Told of every pass and what it made.

        Raises:
            ConfigError: A pass is unknown, a field does not fit, or it needs data and there are none.
            EdgewrightError: A pass failed.
        """
        imported = float_model = model
        for spec in passes:
            named = self._named_inputs(spec, model, float_model, imported)
            gathered = tuple(found.record for found in named.values() if isinstance(found, Result))
            given = {name: found.as_input() if isinstance(found, Result) else found for name, found in named.items()}
            inputs = {"model": model.as_input(), **given}
            model = self.executor.run("passes", spec, inputs, lineage=(*model.lineage, *gathered))
            if not getattr(registry.load("passes", spec.name), "quantises", False):
                float_model = model
            if made is not None:
                made(spec, model)
        return model

    def _named_inputs(
        self, spec: StepSpec, model: Result, float_model: Result, imported: Result
    ) -> Mapping[str, Input | Result]:
        """Makes what a pass declares it needs beside the model.

        `data`; `statistics` gathered from the model; `float`, the model as it was before passes that quantise it;
        `teacher`, the imported model or the one that the pass names; `student`, the network of the user that it names,
        if any; `costs` of the model's channels on the target; `code`, the project's folder, where a field names a
        function in it.
        """
        makers: dict[str, Callable[[], Input | Result | None]] = {
            "data": lambda: self._data(spec),
            "statistics": lambda: self._statistics(spec, model),
            "float": lambda: float_model,
            "teacher": lambda: self._teacher(spec, imported),
            "student": lambda: self._student(spec, imported),
            "costs": lambda: self._costs(spec, model),
            "code": lambda: self._code(spec),
        }
        plugin = registry.load("passes", spec.name)
        needs: tuple[str, ...] = plugin.wants(spec.config) if hasattr(plugin, "wants") else getattr(plugin, "needs", ())
        named = {name: makers[name]() for name in needs}
        return {name: found for name, found in named.items() if found is not None}

    def _data(self, spec: StepSpec) -> Input:
        if self.data is None:
            raise ConfigError(f"pass {spec.name} needs data", hint="name a project: --project edgewright.toml")
        return self.data

    def _statistics(self, spec: StepSpec, model: Result) -> Result:
        config: dict[str, Any] = {"limit": self.calibration_limit}
        inputs = {"model": model.as_input(), "data": self._data(spec)}
        return self.executor.run("passes", StepSpec("calibrate", config), inputs)

    def _teacher(self, spec: StepSpec, imported: Result) -> Result:
        named = str(spec.config.get("teacher") or "")
        return self._imported(spec, named, "teacher", imported) if named else imported

    def _student(self, spec: StepSpec, imported: Result) -> Result | None:
        """Imports a student of the user; one of the catalogue needs nothing imported."""
        named = str(spec.config.get("network") or "")
        own = _REFERENCE.fullmatch(named) or Path(named).suffix.lower() in KINDS or "/" in named
        return self._imported(spec, named, "student", imported) if own else None

    def _imported(self, spec: StepSpec, named: str, what: str, imported: Result) -> Result:
        """Imports the model that a field names: a `module:factory` with the project's inputs, or a file."""
        if _REFERENCE.fullmatch(named):
            found = decode_stored(Imported, (imported.path / "import.json").read_bytes())
            code = Input(self.executor.root, code_digest(named, self.executor.root, f"{spec.name} {what}"))
            factory = StepSpec("torch", {"factory": named, "inputs": encode(found.inputs)})
            return self.executor.run("sources", factory, {"code": code})
        path = self.executor.root / named
        if not path.exists():
            hint = "correct the path; it is relative to the project file"
            raise UsageError(f"{spec.name}: no {what} {path}", hint=hint)
        source = StepSpec(_kind(path, what))
        return self.executor.run("sources", source, {"model": Input(path.resolve(), digest_path(path))})

    def _costs(self, spec: StepSpec, model: Result) -> Result:
        if self.pricing is None:
            raise ConfigError(f"pass {spec.name} needs a target to measure on", hint="name one: --compile onnxruntime")
        place = self.pricing.place
        scheme = {name: spec.config[name] for name in ("scheme", "keep_float") if spec.config.get(name)}
        config = {"target": encode(self.pricing.target), "threads": self.pricing.threads, **scheme, **place.fields}
        inputs = {"model": model.as_input(), **({"data": self.data} if self.data is not None else {})}
        return self.executor.run("measure", StepSpec("channel-costs", config), inputs, device=place.device)

    def _code(self, spec: StepSpec) -> Input | None:
        names = sorted(set(_references(spec.config)))
        if not names:
            return None
        root = self.executor.root
        return Input(root, digest_json({name: code_digest(name, root, f"pass {spec.name}") for name in names}))


def _references(value: Any) -> Iterator[str]:
    """Yields every `module:function` among the values of a configuration."""
    if isinstance(value, str) and _REFERENCE.fullmatch(value):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _kind(path: Path, what: str) -> str:
    """Returns the source of a model's file; a folder is a hub model or a SavedModel."""
    if path.is_dir():
        return "saved-model" if (path / "saved_model.pb").is_file() else "onnx"
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"{what} {path}: cannot tell what it is", hint=f"one of {', '.join(KINDS)}")
    return KINDS[path.suffix.lower()]
