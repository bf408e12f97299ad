"""A .tflite file in LiteRT, all tensors kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor, read_tflite
from edgewright.measure.layers.sides import Feed, Integers, LocalRunner, Tap, Weights
from edgewright.runtimes._capture import litert_taken_apart
from edgewright.runtimes._litert_io import SAME, Border, read_borders
from edgewright.runtimes.litert import LiteRtRunner

_PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_PASSIVE = ("RELU", "RELU6", "LOGISTIC", "TRANSPOSE", "RESHAPE", "QUANTIZE")
_SCALED = ("int8", "uint8", "int16")
_PREFIXES = ("onnx_tf_prefix_", "model/", "serving_default_", "StatefulPartitionedCall/")
_NOTE = "LiteRT's own kernels, without the XNNPACK delegate, which shows no inner tensors"


@dataclass(slots=True)
class TfliteSide:
    """See `sides.Side`. `Tap.source` is the number of the tensor in the file."""

    title: str
    runtime: str
    inputs: tuple[TensorSpec, ...]
    stored_inputs: Mapping[str, Integers]
    taps: tuple[Tap, ...]
    outputs: tuple[Tap, ...]
    hidden: Mapping[str, str]
    notes: tuple[str, ...]
    graph: TfliteGraph
    content: bytes
    runner: LiteRtRunner
    borders: tuple[Border, ...] = ()

    def run(self, feed: Feed) -> Mapping[str, NDArray[Any]]:
        if self.borders:
            self.runner.compute([feed[spec.name] for spec in self.inputs], self.borders)
        else:
            self.runner.run(feed)
        return _read(self.runner, (*self.taps, *self.outputs))

    def weights(self, tap: Tap) -> Weights | None:
        number = int(tap.source)
        for _ in range(len(_PASSIVE)):
            op = next((op for op in self.graph.operators if number in op.outputs), None)
            if op is None or op.op not in (*_PRODUCTS, *_PASSIVE):
                return None
            if op.op in _PRODUCTS:
                return _weights(self.graph, op)
            number = op.inputs[0]
        return None

    @contextmanager
    def local(self, given: Sequence[Tap]) -> Iterator[LocalRunner | None]:
        numbers = [int(tap.source) for tap in given]
        content, entries = litert_taken_apart(self.content, numbers)
        runner = LiteRtRunner(content, self.title, keep_tensors=True)
        yield _Apart(runner, {str(number): name for number, name in entries.items()}, given, self.inputs, self.borders)


@dataclass(frozen=True, slots=True)
class _Apart:
    runner: LiteRtRunner
    entries: Mapping[str, str]
    given: Sequence[Tap]
    inputs: tuple[TensorSpec, ...]
    borders: tuple[Border, ...]

    def run(self, feed: Feed, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        fed = dict(feed)
        for border, spec, own in zip(self.borders, self.inputs, self.runner.inputs, strict=False):
            stored = np.empty(tuple(int(size) for size in own.shape), own.dtype)
            border.write(fed.pop(spec.name), stored)
            fed[own.name] = stored
        for tap in self.given:
            if tap.source in self.entries:
                real = given[tap.source].astype(np.float32)
                fed[self.entries[tap.source]] = real if tap.integers is None else tap.integers.stored(real)
        self.runner.run(fed)
        return _read(self.runner, self.given)


@contextmanager
def open_tflite(path: Path, artifact: Artifact | None = None) -> Iterator[TfliteSide]:
    """Opens a .tflite file.

    Args:
        path: The file.
        artifact: The description it ships with: its inputs are those that are declared, whatever the file takes.

    Raises:
        SourceError: No such file.
        Corrupt: It is damaged, or LiteRT cannot open it.
        ToolchainMissing: LiteRT is not installed.
    """
    graph, content = read_tflite(path), path.read_bytes()
    runner = LiteRtRunner(content, str(path), keep_tensors=True)
    taps = tuple(_tap(graph, op, number) for op in graph.operators for number in op.outputs if number >= 0)
    made = {int(tap.source): tap for tap in taps}
    stored = {spec.name: graph.tensors[n] for spec, n in zip(runner.inputs, graph.inputs, strict=True)}
    integers = {name: found for name, tensor in stored.items() if (found := _integers(tensor)) is not None}
    borders = () if artifact is None else _borders(artifact, str(path))
    yield TfliteSide(
        f"{path.name}, litert",
        f"litert {version('ai-edge-litert')}",
        runner.inputs if artifact is None else artifact.inputs,
        integers if artifact is None else {},
        tuple(tap for tap in taps if _is_real(graph.tensors[int(tap.source)])),
        tuple(made[number] for number in graph.outputs if number in made),
        {},
        (_NOTE,),
        graph,
        content,
        runner,
        borders,
    )


def _borders(artifact: Artifact, where: str) -> tuple[Border, ...]:
    found = read_borders(artifact.session, where).inputs
    return tuple(found.get(spec.name, SAME) for spec in artifact.inputs)


def _read(runner: LiteRtRunner, taps: Sequence[Tap]) -> dict[str, NDArray[Any]]:
    found = runner.kept({int(tap.source) for tap in taps})
    return {tap.source: _real(found[int(tap.source)], tap) for tap in taps}


def _real(values: NDArray[Any], tap: Tap) -> NDArray[Any]:
    return values if tap.integers is None else tap.integers.real(values)


def _is_real(tensor: TfliteTensor) -> bool:
    return tensor.dtype in ("float32", "float16") or bool(tensor.scale and tensor.dtype in _SCALED)


def _tap(graph: TfliteGraph, op: TfliteOperator, number: int) -> Tap:
    tensor = graph.tensors[number]
    name = f"{op.op} {tensor.name}"
    return Tap(tensor.name, name, op.op, str(number), _names(tensor.name), _integers(tensor), _precision(graph, op))


def _names(name: str) -> tuple[str, ...]:
    """Returns the name and the parts it was joined from; converters put prefixes before names of the original."""
    parts = name.split(";")
    plain = [part.removeprefix(p) for part in parts for p in _PREFIXES if part.startswith(p)]
    return tuple(dict.fromkeys((name, *parts, *plain)))


def _integers(tensor: TfliteTensor) -> Integers | None:
    if not tensor.scale or tensor.dtype not in _SCALED:
        return None
    zeros = tensor.zero_point or (0,) * len(tensor.scale)
    return Integers(tensor.dtype, tensor.scale, zeros, tensor.axis if len(tensor.scale) > 1 else None)


def _precision(graph: TfliteGraph, op: TfliteOperator) -> str:
    read = [graph.tensors[n] for n in op.inputs if n >= 0]
    activations = {t.dtype for t in read if t.data is None}
    if "float32" in activations and any(t.data is not None and t.dtype in _SCALED and t.scale for t in read):
        return "int8 (dynamic)"
    return next(iter(sorted(activations)), "")


def _weights(graph: TfliteGraph, op: TfliteOperator) -> Weights | None:
    tensor = graph.tensors[op.inputs[1]]
    if tensor.data is None:
        return None
    return Weights(tensor.name, tensor.real().astype(np.float32), _integers(tensor))
