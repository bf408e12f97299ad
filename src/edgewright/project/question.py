"""Project -> Request: which source, which inputs, which data, by which identity."""

from __future__ import annotations

import difflib
import mmap
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode, encode_json
from edgewright.core.data import NEEDED_SPLITS, SPLITS
from edgewright.core.digest import Digest, digest_json
from edgewright.core.recipe import StepSpec, TargetSpec
from edgewright.core.tensors import TensorSpec
from edgewright.data import code_digest, data_digest, data_spec
from edgewright.engine.execute import Input
from edgewright.errors import ConfigError, SourceError
from edgewright.project.config import ModelConfig, Project
from edgewright.search.imported import KINDS
from edgewright.search.request import Request
from edgewright.search.tuning.ranges import has_ranges
from edgewright.store.files import digest_file, digest_path, write_atomic

_EXTERNAL_KEY = b"\n\x08location"
"""How the entry of a tensor that names its file is written: field 1, eight bytes."""
_FOLDERS = ("saved-model",)
"""Kinds whose model is a folder."""


def ask(project: Project, work: Path, *, by_content: bool = False) -> Request:
    """Builds the request of a project; writes its `data.json` into `work`.

    Args:
        project: From `load_project`.
        work: Folder for what is written.
        by_content: Tell data files apart by what they hold, see `edgewright.data.data_digest`.

    Raises:
        SourceError: The model is missing.
        ConfigError: Its kind is unknown or its fields do not fit.
        DataError: The data is missing.
    """
    file = project.file
    _refuse_ranges(project)
    _require_splits(file.data)
    source, model = _source(project)
    return Request(
        project=file.name,
        source=source,
        model=model,
        data=_data(project, work, by_content),
        code=_metric_code(project),
        targets=_reached(project),
        recipes=project.recipes,
        quality=file.quality,
        budget=file.budget,
        search=file.search,
        golden=file.output.golden,
        origin={"source": _shown(file.model.source)},
        training=project.training,
    )


def _refuse_ranges(project: Project) -> None:
    """A range has no value yet."""
    tables = {recipe.title: recipe.passes for recipe in project.file.recipes} | {"[training]": project.file.training}
    for title, table in tables.items():
        if has_ranges(table):
            hint = "edgewright tune finds one and writes it down; or give a plain value"
            raise ConfigError(f"{title}: a range has no value yet", hint=hint)


def _reached(project: Project) -> tuple[TargetSpec, ...]:
    """Returns the targets, the names of devices replaced by the addresses that the lab file gives."""
    if not any(target.device for target in project.targets):
        return project.targets
    from edgewright.measure.devices import Lab, load_lab
    from edgewright.measure.devices.lab import device_of

    file = project.root / project.file.lab
    lab = load_lab(file) if file.is_file() else Lab(())
    return tuple(replace(t, device=str(device_of(t.device, lab))) if t.device else t for t in project.targets)


def _require_splits(data: Mapping[str, Any]) -> None:
    """Every split is used by the end of a search: a missing one is told before anything is paid for."""
    for split in NEEDED_SPLITS:
        if not isinstance(data.get(split), Mapping):
            tables = [name for name, value in data.items() if isinstance(value, Mapping) and name not in SPLITS]
            near = difflib.get_close_matches(split, tables, n=1)
            hint = f"rename [data.{near[0]}] to [data.{split}]" if near else f"add [data.{split}]"
            raise ConfigError(f'[data]: there is no split "{split}"; {", ".join(NEEDED_SPLITS)} are needed', hint=hint)


def kind_of(model: ModelConfig, root: Path = Path()) -> str:
    """Returns the source plugin for a model; `root` is what a relative path starts from.

    Raises:
        ConfigError: It cannot be told.
    """
    if model.kind:
        return model.kind
    suffix = Path(model.source).suffix.lower()
    if suffix in KINDS:
        return KINDS[suffix]
    if (root / model.source / "saved_model.pb").is_file():
        return "saved-model"
    if ":" in model.source:
        return "torch"
    hint = 'give an .onnx, .tflite, .keras, .h5 or .pt2 file, a SavedModel folder, or "module:factory" for PyTorch'
    raise ConfigError(f"[model] source {model.source!r}: cannot tell what it is", hint=hint)


def _source(project: Project) -> tuple[StepSpec, dict[str, Input]]:
    model, kind = project.file.model, kind_of(project.file.model, project.root)
    inputs: dict[str, Input] = {}
    if model.checkpoint is not None:
        inputs["checkpoint"] = _file_input(project.root / model.checkpoint, "[model] checkpoint")
    if kind == "torch":
        inputs["code"] = Input(project.root, code_digest(model.source, project.root, "[model] source"))
        return StepSpec(kind, {"factory": model.source, "inputs": encode(model.inputs)}), inputs
    if kind in _FOLDERS:
        inputs["model"] = _folder_input(project.root / model.source, "[model] source")
        return StepSpec(kind, {"signature": model.signature}), inputs
    inputs["model"] = _file_input(project.root / model.source, "[model] source")
    if model.custom_operators and kind != "onnx":
        raise ConfigError(f"[model] custom_operators: a model of kind {kind} has none", hint="remove the key")
    for index, name in enumerate(model.custom_operators):
        inputs[f"custom_operators.{index}"] = _file_input(project.root / name, "[model] custom_operators")
    fields = {"outputs": list(model.outputs), "integer_io": model.integer_io} if kind == "tflite" else {}
    return StepSpec(kind, {name: value for name, value in fields.items() if value}), inputs


def _file_input(path: Path, where: str) -> Input:
    if not path.is_file():
        raise SourceError(f"{where}: no file {path}", hint="correct the path; it is relative to the project file")
    return Input(path, _digest_with_external_data(path))


def _folder_input(path: Path, where: str) -> Input:
    if not path.is_dir():
        raise SourceError(f"{where}: no folder {path}", hint="correct the path; it is relative to the project file")
    return Input(path, digest_path(path))


def _digest_with_external_data(path: Path) -> Digest:
    """Digests a model together with the files that ONNX keeps its large tensors in."""
    if path.suffix.lower() != ".onnx" or not _mentions_external_data(path):
        return digest_file(path)
    from edgewright.graph.confine import files_named_by

    beside = {str(file.relative_to(path.parent.resolve())): digest_file(file) for file in files_named_by(path)}
    own = digest_file(path)
    return digest_json({"model": own, "external": beside}) if beside else own


def _mentions_external_data(path: Path) -> bool:
    """Searches the raw bytes: ordinary models are told apart without importing a library that parses them."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_EXTERNAL_KEY) >= 0


def _data(project: Project, work: Path, by_content: bool) -> Callable[[tuple[TensorSpec, ...]], Input]:
    """Returns what writes the `data.json` for a model with given inputs."""
    file = project.file

    def written(inputs: tuple[TensorSpec, ...]) -> Input:
        spec = data_spec(project.root, file.data, file.preprocess, file.postprocess, project.labels, inputs)
        path = work / ("data.json" if inputs else "data-before-import.json")
        write_atomic(path, encode_json(spec))
        return Input(path, data_digest(spec, by_content=by_content))

    return written


def _metric_code(project: Project) -> Input | None:
    """Identifies the user's own metrics by their sources."""
    own = [name for name in project.file.quality.metrics if ":" in name]
    if not own:
        return None
    return Input(project.root, digest_json({name: code_digest(name, project.root, f"metric {name}") for name in own}))


def _shown(source: str) -> str:
    """Returns the name of the model without the folders of this machine."""
    return source if ":" in source else Path(source).name
