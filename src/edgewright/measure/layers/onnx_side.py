"""An ONNX artifact in ONNX Runtime, its inner tensors exposed as further outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.graph import custom
from edgewright.graph.load import dtype_name, load, save
from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import infer_shapes
from edgewright.measure.layers import taps as graph_taps
from edgewright.measure.layers.reading import Reading, find_reading, with_outputs
from edgewright.measure.layers.sides import Feed, Integers, LocalRunner, Tap, Weights
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._ort_custom import libraries_of

_INTEGER_OPERATORS = frozenset(
    {"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "MatMulNBits", "QLinearConv", "QLinearMatMul"}
)


@dataclass(slots=True)
class OnnxSide:
    """See `sides.Side`."""

    title: str
    runtime: str
    inputs: tuple[TensorSpec, ...]
    taps: tuple[Tap, ...]
    outputs: tuple[Tap, ...]
    hidden: Mapping[str, str]
    notes: tuple[str, ...]
    model: ir.Model
    runner: Runner
    artifact: Artifact
    folder: Path
    stored_inputs: Mapping[str, Integers] = field(default_factory=dict)

    def run(self, feed: Feed) -> Mapping[str, NDArray[Any]]:
        found = self.runner.run(feed)
        return {tap.source: real(found[tap.source], tap) for tap in (*self.taps, *self.outputs)}

    def weights(self, tap: Tap) -> Weights | None:
        return graph_taps.weights(self.model, tap)

    @contextmanager
    def local(self, given: Sequence[Tap]) -> Iterator[LocalRunner | None]:
        from edgewright.measure.layers.apart import taken_apart

        parts = taken_apart(self.model, given)
        folder = self.folder / "apart"
        with opened(parts.model, self.artifact, folder) as runner:
            yield _Apart(runner, parts.entries, given)


@dataclass(frozen=True, slots=True)
class _Apart:
    runner: Runner
    entries: Mapping[str, str]
    given: Sequence[Tap]

    def run(self, feed: Feed, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        wanted = {spec.name: spec.dtype for spec in self.runner.inputs}
        fed = {name: array for name, array in feed.items() if name in wanted}
        fed |= {entry: given[source].astype(wanted[entry]) for source, entry in self.entries.items()}
        found = self.runner.run(fed)
        return {tap.source: real(found[tap.source], tap) for tap in self.given}


@contextmanager
def open_onnx(artifact: Path, title: str, scratch: Path) -> Iterator[OnnxSide]:
    """Opens an artifact of ONNX Runtime.

    Of a float model every activation is read, also what would be fused: float kernels compute the same on their own.

    Args:
        artifact: Its folder.
        title: For a reader.
        scratch: An empty folder.

    Raises:
        StepFailed: ONNX Runtime cannot run it.
    """
    described = load_artifact(artifact)
    model = infer_shapes(load(artifact / described.files[0]))
    custom.declare(model, libraries_of(described.session, artifact))
    name_nodes(model.graph)
    every = graph_taps.taps(model, described.placement)
    integers = any(tap.integers for tap in every) or any(node.op_type in _INTEGER_OPERATORS for node in model.graph)
    reading = find_reading(model, described, scratch) if integers else Reading(model, every)
    outputs = tuple(_output(spec.name, every) for spec in described.outputs)
    with opened(with_outputs(reading.model, reading.taps), described, scratch / "tapped") as runner:
        runtime = f"{described.runtime} {described.runtime_version}"
        yield OnnxSide(
            title,
            runtime,
            described.inputs,
            reading.taps,
            outputs,
            reading.hidden,
            reading.notes,
            reading.model,
            runner,
            described,
            scratch,
        )


def real(values: NDArray[Any], tap: Tap) -> NDArray[Any]:
    """Returns real values of what the runtime gave for `tap`."""
    if tap.integers is not None and tap.integers.dtype == values.dtype.name:
        return tap.integers.real(values)
    return values


@contextmanager
def opened(model: ir.Model, artifact: Artifact, folder: Path) -> Iterator[Runner]:
    """Opens `model` as `artifact` would be: same runtime, same session options."""
    save(model, folder)
    specs = _specs(model)
    files = tuple(sorted(file.name for file in folder.iterdir() if file.is_file()))
    (folder / "artifact.json").write_bytes(
        encode_json(replace(artifact, files=files, inputs=specs[0], outputs=specs[1], placement=()))
    )
    with open_runner(folder, RunOptions(threads=1)) as runner:
        yield runner


def _specs(model: ir.Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Shapes are left open: values taken apart are as large as the samples make them."""
    graph = model.graph
    inputs = [v for v in graph.inputs if v.name not in graph.initializers]
    return (
        tuple(TensorSpec(v.name or "", dtype_name(v.dtype), ("",) * len(v.shape or ())) for v in inputs),
        tuple(TensorSpec(v.name or "", dtype_name(v.dtype), ()) for v in graph.outputs),
    )


def _output(name: str, every: Sequence[Tap]) -> Tap:
    known = next((tap for tap in every if tap.tensor == name), None)
    return Tap(name, known.node if known else "", known.op if known else "", name, (name,))
