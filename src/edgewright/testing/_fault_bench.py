"""The bench on which candidates with a planted fault are made: clean-up, calibration, a plan to spoil, compiling."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.recipe import StepSpec
from edgewright.core.target import Artifact, Plan, TensorPlan
from edgewright.testing._fault_data import CALIBRATION, TEST, TUNE, Samples
from edgewright.testing._fault_models import Network

if TYPE_CHECKING:
    import onnx_ir

SAFE = "onnxruntime-u8s7"
"""Scheme that is right on every processor."""
REFERENCE, CANDIDATE, PROJECT, DEPLOYED, DATA = (
    "reference.onnx",
    "candidate",
    "edgewright.toml",
    "deployed.toml",
    "data.npz",
)
Edit = Callable[[Plan], Plan]


@dataclass(slots=True)
class StepContext:
    """The Context of a step that runs in this process."""

    scratch: Path
    seed: int = 0

    def progress(self, fraction: float, note: str = "") -> None:
        """Nobody watches."""


@dataclass
class Bench:
    """One network in a folder of its own.

    Attributes:
        folder: Of the case; holds the reference, the project, the data and in the end the candidate.
        network: What it is about.
    """

    folder: Path
    network: Network
    _cleaned: Path | None = field(default=None, repr=False)

    def write(self) -> None:
        """Writes the reference, the data and the project."""
        self.folder.mkdir(parents=True, exist_ok=True)
        onnx.save(self.network.model, self.folder / REFERENCE)
        samples = self.network.samples
        np.savez(self.folder / DATA, x=samples.values, y=labels_of(samples))
        write_project(self.folder / PROJECT, samples, samples.preprocess)

    @property
    def cleaned(self) -> Path:
        """The reference after clean-up, a hub folder."""
        if self._cleaned is None:
            self._cleaned = self.run("clean-up", {}, self.folder / REFERENCE, "cleaned")
        return self._cleaned

    def run(self, name: str, config: Mapping[str, Any], model: Path, out: str, **inputs: Path) -> Path:
        """Runs a pass in this process and returns what it made."""
        from edgewright.engine import registry

        target = self.folder / ".work" / out
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        step = registry.make("passes", StepSpec(name, dict(config)))
        step.run({"model": model, **inputs}, target, StepContext(self.folder / ".work"))
        return target

    def data(self, inputs_of: Path, project: str = PROJECT) -> Path:
        """Returns the `data.json` of the project for a model."""
        from edgewright.data import data_spec
        from edgewright.graph.load import load, tensor_specs
        from edgewright.project.config import load_project

        loaded = load_project(self.folder / project)
        file = loaded.file
        inputs = tensor_specs(load(inputs_of))[0]
        spec = data_spec(self.folder, file.data, file.preprocess, file.postprocess, loaded.labels, inputs)
        path = self.folder / ".work" / f"{project}.data.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_json(spec))
        return path

    def statistics(self, model: Path) -> Path:
        """Calibrates `model` on the project's calibration split."""
        return self.run("calibrate", {}, model, "statistics", data=self.data(model))

    def quantise(self, edit: Edit, *, model: Path | None = None, scheme: str = SAFE, plan_all: bool = False) -> None:
        """Writes the candidate: static INT8 with a plan that `edit` has changed.

        Args:
            edit: Gets the healthy plan.
            model: What is quantised; the cleaned reference by default.
            scheme: By name.
            plan_all: Calibrate and offer every activation to `edit`, as a plan entry whose reason is empty.
        """
        from edgewright.graph import qdq
        from edgewright.graph.load import PLAN_FILE, load, save
        from edgewright.graph.placement import decide
        from edgewright.graph.plan import describe
        from edgewright.graph.schemes import find
        from edgewright.graph.shapes import infer_shapes
        from edgewright.graph.statistics import read_statistics

        source = model or self.cleaned
        seen = read_statistics(self.statistics(source))
        loaded = infer_shapes(load(source))
        qdq.prepare(loaded)
        chosen = find(scheme)
        plan = edit(describe(decide(loaded.graph, chosen), chosen, seen))
        qdq.apply(loaded.graph, plan)
        out = self.folder / CANDIDATE
        save(infer_shapes(loaded), out)
        (out / PLAN_FILE).write_bytes(encode_json(plan))

    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Returns what every activation of the cleaned reference reaches on the calibration split."""
        from edgewright.graph.statistics import read_statistics

        return {n: (t.low, t.high) for n, t in read_statistics(self.statistics(self.cleaned)).tensors.items()}

    def compile(self, model: Path | None = None, forget: Sequence[str] = ()) -> None:
        """Makes the candidate an artifact in place, with its plan beside it, and without some session options."""
        from edgewright.engine import registry

        source = model or self.folder / CANDIDATE
        target = registry.make("targets", StepSpec("onnxruntime"))
        out = self.folder / ".work" / "artifact"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        target.run({"model": source, "data": self.data(source)}, out, StepContext(self.folder / ".work"))
        if (source / "plan.json").is_file():
            shutil.copyfile(source / "plan.json", out / "plan.json")
        described = decode_stored(Artifact, (out / "artifact.json").read_bytes())
        session = {key: value for key, value in described.session.items() if key not in forget}
        (out / "artifact.json").write_bytes(encode_json(replace(described, session=session)))
        kept = self.folder / CANDIDATE / "steps"
        if kept.is_dir():
            shutil.move(kept, out / "steps")
        shutil.rmtree(self.folder / CANDIDATE, ignore_errors=True)
        out.replace(self.folder / CANDIDATE)

    def cleaned_graph(self) -> onnx_ir.Model:
        """Returns the cleaned reference with shapes."""
        from edgewright.graph.load import load
        from edgewright.graph.shapes import infer_shapes

        return infer_shapes(load(self.cleaned))

    def producer(self, tensor: str) -> str:
        """Returns the node of the cleaned reference that makes `tensor`; empty for an input."""
        made = {name: node.name for node in onnx.load(self.cleaned / "model.onnx").graph.node for name in node.output}
        return str(made.get(tensor, ""))

    def layer_of(self, tensor: str) -> tuple[str, ...]:
        """Returns the nodes of the reference's layer that makes `tensor`; the first layer for the input."""
        layers = self.network.layers
        found = (nodes for nodes in layers.values() if tensor in nodes)
        return next(found, next(iter(layers.values())))


def with_tensor(plan: Plan, name: str, change: Callable[[TensorPlan], TensorPlan]) -> Plan:
    """Returns `plan` with one entry changed."""
    return replace(plan, tensors=tuple(change(t) if t.tensor == name else t for t in plan.tensors))


def labels_of(samples: Samples) -> Any:
    """Returns the class of every sample; boxes travel in a file of their own."""
    return samples.labels if samples.labels.ndim == 1 else samples.labels[:, 4].astype(np.int64)


def names_of(samples: Samples) -> tuple[str, ...]:
    """Returns the class names."""
    return tuple(["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"][: samples.classes])


def write_project(
    path: Path,
    samples: Samples,
    preprocess: Sequence[Mapping[str, Any]],
    labels: Sequence[str] = (),
    calibration: str = DATA,
) -> None:
    """Writes a project file."""
    tables = "".join(_table("preprocess", table) for table in preprocess)
    after = _table("postprocess", {"op": "raw"}) if samples.labels.ndim > 1 else _table("postprocess", {"op": "top-k"})
    metric = "agreement" if samples.labels.ndim > 1 else "top-1"
    rows = {"calibration": CALIBRATION, "tune": TUNE, "test": TEST}
    splits = [f'[data.{name}]\nrows = "{part.start}:{part.stop}"\n' for name, part in rows.items()]
    if calibration != DATA:
        splits[0] = f'[data.calibration]\npath = "{calibration}"\n'
    head = f'schema = 1\nname = "planted"\nlabels = {json.dumps(list(labels or names_of(samples)))}\n'
    model = f'[model]\nsource = "{REFERENCE}"\n[data]\nreader = "npz"\npath = "{DATA}"\n'
    quality = f'[quality]\nmetrics = ["{metric}"]\n[[targets]]\nname = "onnxruntime"\n'
    path.write_text(head + model + "".join(splits) + tables + after + quality)


def _table(name: str, fields: Mapping[str, Any]) -> str:
    return f"[[{name}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())
