"""Opening what is to be explained, and running it: as it says in the file, and as its runtime really computes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored
from edgewright.core.target import Artifact, Plan
from edgewright.graph.load import PLAN_FILE, load
from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import infer_shapes
from edgewright.measure.layers.onnx_side import opened
from edgewright.passes._infer import open_infer
from edgewright.runtimes import load_artifact

Array = NDArray[Any]
Feed = Mapping[str, Array]
_PART = 16


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A candidate or reference.

    Attributes:
        path: As given.
        model: Its graph with shapes and node names.
        artifact: How its runtime runs it; made here where it was a model.
        plan: Its quantisation plan, where there is one.
        steps: Stage -> model of the steps that led to it, where they were kept.
    """

    path: Path
    model: ir.Model
    artifact: Artifact
    plan: Plan | None
    steps: Mapping[str, Path]


def open_model(path: Path, scratch: Path) -> Opened:
    """Opens an ONNX file, a model folder or an artifact folder.

    Only an artifact says how it is opened: a model is run as plain ONNX Runtime would, without session options.

    Raises:
        EdgewrightError: It cannot be read, or its runtime cannot run it.
    """
    from edgewright.measure.layers.opening import _artifact

    scratch.mkdir(parents=True, exist_ok=True)
    folder = _artifact(_without_plan(path, scratch), scratch)
    described = load_artifact(folder)
    if folder != path:
        described = bare(described)
    model = infer_shapes(load(folder / described.files[0]))
    name_nodes(model.graph)
    return Opened(path, model, described, _plan(path), _steps(path))


def _without_plan(path: Path, scratch: Path) -> Path:
    """Returns a model folder without its plan: one that breaks its scheme is to be explained and not refused."""
    if not path.is_dir() or (path / "artifact.json").is_file() or not (path / PLAN_FILE).is_file():
        return path
    bare_folder = scratch / "model"
    bare_folder.mkdir()
    for file in path.glob("model.onnx*"):
        shutil.copyfile(file, bare_folder / file.name)
    return bare_folder


def _plan(path: Path) -> Plan | None:
    file = path / PLAN_FILE if path.is_dir() else path.with_name(PLAN_FILE)
    if not file.is_file():
        return None
    try:
        return decode_stored(Plan, file.read_bytes())
    except ValueError:
        return None


def _steps(path: Path) -> dict[str, Path]:
    """Finds what `edgewright apply --keep-steps` left beside a model, the import and clean-up above all."""
    for folder in (path, path.parent):
        if (folder / "steps").is_dir():
            found = sorted((folder / "steps").iterdir())
            return {step.name.split("-", 1)[-1]: step for step in found if (step / "model.onnx").is_file()}
    return {}


def parts(feed: Feed, inputs: Mapping[str, Any] | None = None, size: int = _PART) -> Iterator[Feed]:
    """Yields a feed in parts of a few samples."""
    count = len(next(iter(feed.values())))
    for start in range(0, count, size):
        yield {name: array[start : start + size] for name, array in feed.items()}


def run(model: ir.Model, feed: Feed, *, fuse: bool = False) -> dict[str, Array]:
    """Computes the outputs of `model` as the graph says, node by node, or fused as ONNX Runtime likes."""
    infer = open_infer(model, threads=1, fuse=fuse)
    names = {value.name for value in model.graph.inputs}
    size = batch_of(model) or _PART
    found = [infer({n: a for n, a in part.items() if n in names}) for part in parts(feed, size=size)]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def batch_of(model: ir.Model) -> int | None:
    """Returns the batch that the graph is fixed to; None where it is free."""
    shapes = [value.shape for value in model.graph.inputs if value.name not in model.graph.initializers]
    first = shapes[0][0] if shapes and shapes[0] is not None and len(shapes[0]) else None
    return first if isinstance(first, int) else None


def run_really(model: ir.Model, artifact: Artifact, feed: Feed, scratch: Path) -> dict[str, Array]:
    """Computes the outputs of `model` through the artifact's runtime with the artifact's session options."""
    with opened(model, artifact, scratch) as runner:
        names = {spec.name for spec in runner.inputs}
        size = batch_of(model) or _PART
        found = [runner.run({n: a for n, a in part.items() if n in names}) for part in parts(feed, size=size)]
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}


def activations(model: ir.Model, feed: Feed, wanted: Sequence[str] | None = None) -> dict[str, Array]:
    """Computes every float activation of `model` that depends on its inputs, inputs left out."""
    copy = model.clone()
    present = {value.name for value in copy.graph.outputs}
    moving = {id(value) for value in copy.graph.inputs}
    for node in copy.graph:
        if not any(id(value) in moving for value in node.inputs):
            continue
        for value in node.outputs:
            moving.add(id(value))
            asked = wanted is None or value.name in wanted
            if value.dtype == ir.DataType.FLOAT and value.name not in present and asked:
                copy.graph.outputs.append(value)
    return run(copy, feed)


def bare(artifact: Artifact) -> Artifact:
    """Returns `artifact` without session options."""
    return replace(artifact, session={})
