"""The memory of a model's int8 form, from the float model: nothing is calibrated, quantised or kept.

The compiler orders, joins and lays out operators; only the types of their tensors differ between the float file and
the int8 one. So the float file is made in memory and read as if it were of int8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgewright.core.target import Plan
from edgewright.errors import StepFailed
from edgewright.formats.tflite.reader import TfliteGraph, TfliteOperator, TfliteTensor, parse
from edgewright.graph.names import name_nodes
from edgewright.graph.qdq import is_quantised
from edgewright.targets._litert_refusal import refusals
from edgewright.targets._micro.arena import Prediction, predict, size_in_bytes
from edgewright.targets._micro.flash import Flash, estimate
from edgewright.targets._micro.kernels import KERNELS
from edgewright.targets._micro.layout import BOARD, Build
from edgewright.targets._micro.support import unsupported
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Compiled, Options

_PER_CHANNEL = 12
"""Bytes per output channel in the file: a scale and a zero point."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the int8 form will need."""

    arena: Prediction
    flash: Flash


def foresee(model: ir.Model, batch: int, build: Build = BOARD) -> Foreseen | tuple[str, ...]:
    """Returns what the int8 form of a model will need, or why there is none.

    Args:
        model: Float or quantised; left as it is.
        batch: Size of a free batch axis.
        build: Of the interpreter.

    Raises:
        StepFailed: The compiler cannot take it.
    """
    options = Options(batch=batch, hybrid=False)
    reasons = tuple(refusals(model, options))
    if reasons:
        return reasons
    named = model.clone()
    name_nodes(named.graph)
    made = _compile(named, options)
    stored = parse(made.content)
    graph = as_int8(stored)
    reasons = tuple(unsupported(graph, made.trace))
    return reasons or Foreseen(predict(graph, build), estimate(graph, _file_size(len(made.content), stored, graph)))


def _compile(model: ir.Model, options: Options) -> Compiled:
    """Compiles; a quantised model without conversions at its borders, as the target will make it."""
    if is_quantised(model.graph):
        with contextlib.suppress(StepFailed):
            return compile_model(model, Plan(""), replace(options, integer_only="int8"))
    return compile_model(model, Plan(""), options)


def as_int8(graph: TfliteGraph) -> TfliteGraph:
    """Returns the graph with float tensors as int8, weights with a scale per channel, biases as int32."""
    axes = {op.inputs[at]: _channels(op) for op in graph.operators if (at := _weights_at(op)) >= 0}
    biases = {n for op in graph.operators if (at := _weights_at(op)) >= 0 for n in op.inputs[at + 1 : at + 2]}
    axes |= dict.fromkeys(biases, 0)
    tensors = tuple(_integer(t, axes.get(n), n in biases) for n, t in enumerate(graph.tensors))
    return replace(graph, tensors=tensors)


def _weights_at(op: TfliteOperator) -> int:
    return KERNELS[op.op].channels if op.op in KERNELS else -1


def _channels(op: TfliteOperator) -> int:
    return 3 if op.op == "DEPTHWISE_CONV_2D" else 0


def _integer(tensor: TfliteTensor, axis: int | None, bias: bool) -> TfliteTensor:
    if tensor.dtype not in ("float32", "float16"):
        return tensor
    kind = np.dtype(np.int32 if bias else np.int8)
    count = tensor.shape[axis] if axis is not None and tensor.shape else 1
    data = None if tensor.data is None else np.zeros(tensor.shape, kind)
    return replace(tensor, dtype=kind.name, data=data, scale=(1.0,) * count, zero_point=(0,) * count, axis=axis or 0)


def _file_size(before: int, stored: TfliteGraph, graph: TfliteGraph) -> int:
    """Returns the size of the int8 file: constants shrink, scales are added."""
    added = _scales(graph.tensors) - _scales(stored.tensors)
    return before - _constants(stored.tensors) + _constants(graph.tensors) + added


def _constants(tensors: Sequence[TfliteTensor]) -> int:
    return sum(size_in_bytes(t) for t in tensors if t.data is not None)


def _scales(tensors: Sequence[TfliteTensor]) -> int:
    return sum(_PER_CHANNEL * len(t.scale) for t in tensors)
