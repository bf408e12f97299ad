"""How large an arena TensorFlow Lite Micro needs for a model, worked out without running it.

Source of the order and of the structs: tensorflow/lite/micro/micro_allocator.cc and .h, micro_interpreter.cc,
arena_allocator/single_arena_buffer_allocator.h, c/common.h (with TF_LITE_STATIC_MEMORY).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor
from edgewright.targets._micro.kernels import KERNELS
from edgewright.targets._micro.layout import Build, alignment_of, size_of, up
from edgewright.targets._micro.planner import ALIGNMENT, Buffer, height, lifetimes, plan

_WIDTH = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "int32": 4,
    "float32": 4,
    "int64": 8,
    "float64": 8,
    "float16": 2,
}
_INTEGERS = ("int8", "int16", "uint8")
_INTEGER_DATA = ("CUMSUM", "LOG_SOFTMAX")
"""Kernels that keep nothing when they compute in floats."""

EVAL_TENSOR = "2p i"
NODE = "6p i p"
TENSOR = "i 3p p 3i f i"
AFFINE = "2p i"
SUBGRAPH = "2p"
SCRATCH_REQUEST = "p 2i"
ALLOCATION_INFO = "2p 3i b"
PLANNER_ENTRY = 40
REQUESTS_PER_OPERATOR = 12
SOFTMAX_TABLE = 2 * 513
"""Two tables of int16 (kInt16LUTArraySize in softmax_common.cc)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the arena holds, in bytes.

    Attributes:
        head: Tensors and scratch, sharing room over time.
        tail: What stays.
        setup: Bytes needed while the model is opened; the arena must be as large as this too.
        parts: Kind of a persistent allocation -> bytes.
        buffers: The head, planned.
    """

    head: int
    tail: int
    setup: int
    parts: Mapping[str, int] = field(default_factory=dict)
    buffers: tuple[Buffer, ...] = ()

    @property
    def used(self) -> int:
        """What the interpreter reports as used."""
        return self.head + self.tail

    @property
    def total(self) -> int:
        """The smallest arena that the model opens in."""
        return up(max(self.used, self.setup), ALIGNMENT)


class _Tail:
    """The persistent end of the arena, which grows downwards."""

    def __init__(self, build: Build) -> None:
        self.build = build
        self.size = 0
        self.parts: dict[str, int] = {}

    def take(self, part: str, size: int, alignment: int) -> None:
        """Allocates."""
        before = self.size
        self.size = up(self.size + size, alignment)
        self.parts[part] = self.parts.get(part, 0) + self.size - before

    def struct(self, part: str, fields: str, count: int = 1) -> None:
        """Allocates an array of structs at their own alignment."""
        self.take(part, size_of(fields, self.build) * count, alignment_of(fields, self.build))

    def kernel(self, size: int) -> None:
        """Allocates what a kernel asks for."""
        self.take("operator data", size, ALIGNMENT)


def predict(graph: TfliteGraph, build: Build) -> Prediction:
    """Predicts the arena of a model with the reference kernels.

    Args:
        graph: Operators that all have kernels (see `support`); sizes are fixed.
        build: Of the interpreter.
    """
    tail = _Tail(build)
    _open_allocators(tail)
    tail.struct("tensors", EVAL_TENSOR, len(graph.tensors))
    tail.struct("nodes", NODE, len(graph.operators))
    for op in graph.operators:
        if fields := KERNELS[op.op].options:
            tail.struct("operator options", fields)
    scratch = _kernels(tail, graph)
    for tensor in graph.tensors:
        if tensor.variable:
            tail.take("variables", size_in_bytes(tensor), ALIGNMENT)
    if scratch:
        tail.struct("scratch handles", "p", len(scratch))
    buffers = plan([*lifetimes(graph, [_planned(tensor) for tensor in graph.tensors]), *scratch])
    setup = tail.size + _setup(graph, len(scratch), len(buffers), build)
    _borders(tail, graph)
    return Prediction(height(buffers), tail.size, setup, tail.parts, buffers)


def size_in_bytes(tensor: TfliteTensor) -> int:
    """Returns the bytes of a tensor's value."""
    return math.prod(tensor.shape) * _WIDTH.get(tensor.dtype, 4)


def _planned(tensor: TfliteTensor) -> int:
    return 0 if tensor.data is not None or tensor.variable else size_in_bytes(tensor)


def _open_allocators(tail: _Tail) -> None:
    recording, compression = tail.build.recording, tail.build.compression
    tail.struct("interpreter", "2p 5p p i" + (" 4p" if recording else ""))
    tail.struct("interpreter", "p 2i 4p 2i p b")
    tail.struct("interpreter", "5p b 3p" + (" p 24p" + (" 0p" if not compression else "") if recording else ""))
    tail.struct("interpreter", "2p")
    tail.struct("interpreter", SUBGRAPH + (" p" if compression else ""))


def _kernels(tail: _Tail, graph: TfliteGraph) -> list[Buffer]:
    """Allocates what kernels keep: first all of `Init`, then all of `Prepare`; returns the scratch they ask for."""
    for op in graph.operators:
        fields = KERNELS[op.op].data
        if fields and not (op.op in _INTEGER_DATA and graph.tensors[op.inputs[0]].dtype != "int8"):
            tail.kernel(size_of(fields, tail.build))
    scratch: list[Buffer] = []
    for step, op in enumerate(graph.operators, 1):
        for size in _prepared(graph, op, tail.build):
            tail.kernel(size)
        sizes = _scratch(graph, op)
        scratch += [Buffer(f"scratch of {op.op}", up(size, ALIGNMENT), step, step, scratch=True) for size in sizes]
    return scratch


def _prepared(graph: TfliteGraph, op: TfliteOperator, build: Build) -> Iterator[int]:
    """Yields what a kernel allocates in `Prepare`."""
    read = [graph.tensors[n] if n >= 0 else None for n in op.inputs]
    weights = read[KERNELS[op.op].channels] if KERNELS[op.op].channels >= 0 else None
    if weights is not None:
        yield from _channels(op, weights)
    elif op.op == "SOFTMAX" and read[0] is not None and read[0].dtype == "int16":
        yield from (SOFTMAX_TABLE, SOFTMAX_TABLE)
    elif op.op == "BATCH_MATMUL":
        yield from _product(graph, op, build)


def _channels(op: TfliteOperator, weights: TfliteTensor) -> Iterator[int]:
    """Convolutions always keep a pair of numbers per channel, a fully connected operator where it has scales for it."""
    if op.op == "FULLY_CONNECTED":
        count = len(weights.scale) if len(weights.scale) > 1 else 0
    else:
        count = weights.shape[3 if op.op == "DEPTHWISE_CONV_2D" else 0]
    if count:
        yield from (4 * count, 4 * count)


def _product(graph: TfliteGraph, op: TfliteOperator, build: Build) -> Iterator[int]:
    left, right = (graph.tensors[n] for n in op.inputs[:2])
    dims = 4 * (1 + len(graph.tensors[op.outputs[0]].shape))
    yield dims
    if left.dtype in _INTEGERS:
        yield size_of("7i", build)
    for tensor, moved in ((left, op.options.get("adj_x", False)), (right, not op.options.get("adj_y", False))):
        if moved:
            yield size_of(EVAL_TENSOR, build)
            yield 4 * (1 + len(tensor.shape))
            yield size_in_bytes(tensor)


def _scratch(graph: TfliteGraph, op: TfliteOperator) -> Iterator[int]:
    """Yields the working memory that a kernel asks for."""
    first = graph.tensors[op.inputs[0]] if op.inputs and op.inputs[0] >= 0 else None
    elements = math.prod(graph.tensors[op.outputs[0]].shape) if op.outputs else 0
    if op.op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN") and first is not None:
        yield 4 * len(first.shape)
        yield 4 * math.prod(graph.tensors[op.inputs[1]].shape)
        if op.op in ("MEAN", "SUM") and first.dtype in _INTEGERS:
            yield 4 * elements
    elif op.op == "MIRROR_PAD" and first is not None:
        yield from (4 * len(first.shape), 4 * len(first.shape))
    elif op.op == "TRANSPOSE_CONV" and graph.tensors[op.inputs[2]].dtype in _INTEGERS:
        yield elements * (4 if graph.tensors[op.inputs[2]].dtype == "int8" else 8)


def _setup(graph: TfliteGraph, scratch: int, buffers: int, build: Build) -> int:
    """Returns what planning itself needs beside the tail: requests, one record per tensor, the planner's lists."""
    room = size_of(SCRATCH_REQUEST, build) * (REQUESTS_PER_OPERATOR + scratch) + build.pointer
    room = up(room, build.pointer) + size_of(ALLOCATION_INFO, build) * (len(graph.tensors) + scratch)
    return up(room, ALIGNMENT) + PLANNER_ENTRY * buffers


def _borders(tail: _Tail, graph: TfliteGraph) -> None:
    """Allocates the full descriptions of inputs and outputs, with their quantisation parameters."""
    for numbers in (graph.inputs, graph.outputs):
        tail.take("inputs and outputs", tail.build.pointer * len(numbers), ALIGNMENT)
        for tensor in (graph.tensors[n] for n in numbers):
            tail.struct("inputs and outputs", TENSOR)
            if tensor.scale:
                tail.struct("inputs and outputs", AFFINE)
                tail.take("inputs and outputs", 4 * (1 + len(tensor.scale)), 4)
