"""The inner tensors of an ONNX graph that can be read without changing what the runtime fuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.core.target import NodePlacement
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.measure.layers.sides import Integers, Tap, Weights

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
_PASSIVE = frozenset({"Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid", "Reshape", "Flatten", "Squeeze", "Add"})
"""Operators behind a product that still count as its layer."""
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def taps(model: ir.Model, placement: Sequence[NodePlacement]) -> tuple[Tap, ...]:
    """Returns every activation of the main graph: the integers of what is quantised, floats of what is not."""
    precisions = {name: p.precision for p in placement for name in p.source if p.precision != "conversion"}
    found: list[Tap] = []
    seen: set[int] = set()
    for node in model.graph:
        if not any(id(v) in seen or _given(v, model.graph) for v in node.inputs if v is not None):
            continue
        seen.update(id(v) for v in node.outputs)
        found.extend(_tap(value, node, precisions) for value in node.outputs if _readable(value, node))
    return tuple(found)


def _given(value: ir.Value, graph: ir.Graph) -> bool:
    return value.is_graph_input() and value.name not in graph.initializers


def _readable(value: ir.Value, node: ir.Node) -> bool:
    """Integers are read behind the quantiser, so neither what enters it nor what a dequantiser makes of them."""
    if not value.name or not (value.uses() or value.is_graph_output()):
        return False
    if node.op_type == QUANTIZE:
        return integers_of(node) is not None
    quantised = any(use.node.op_type == QUANTIZE and integers_of(use.node) for use in value.uses())
    return node.op_type != DEQUANTIZE and value.dtype in FLOATS and not quantised


def _tap(value: ir.Value, node: ir.Node, precisions: Mapping[str, str]) -> Tap:
    name = value.name or ""
    if node.op_type != QUANTIZE:
        return Tap(name, node.name or "", node.op_type, name, (name,), None, precisions.get(node.name or "", ""))
    real = node.inputs[0]
    assert real is not None
    maker = real.producer()
    stem = (real.name or "").removesuffix("/float")
    op, made_by = (maker.op_type, maker.name or "") if maker is not None else ("input", "")
    names = (stem, *(v.name for use in value.uses() for v in use.node.outputs if v.name))
    return Tap(stem, made_by, op, name, names, integers_of(node), precisions.get(made_by, ""))


def integers_of(node: ir.Node) -> Integers | None:
    """Returns what a QuantizeLinear or DequantizeLinear with constant parameters says; None for other ones."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or scale.const_value is None or (zero is not None and zero.const_value is None):
        return None
    scales = scale.const_value.numpy().reshape(-1)
    stored = node.inputs[0] if node.op_type == DEQUANTIZE else node.outputs[0]
    dtype = zero.dtype if zero is not None else stored.dtype if stored is not None else None
    kind = "uint8" if dtype is None else str(dtype.numpy().name)
    if kind not in ("int8", "uint8", "int16", "uint16", "int32") or node.attributes.get_int("block_size"):
        return None
    known = zero.const_value if zero is not None else None
    zeros = known.numpy().reshape(-1) if known is not None else np.zeros(scales.shape, np.int64)
    axis = node.attributes.get_int("axis", 1) if scales.size > 1 else None
    return Integers(kind, tuple(map(float, scales)), tuple(map(int, zeros)), axis)


def weights(model: ir.Model, tap: Tap) -> Weights | None:
    """Returns the constant operand of the product that `tap` is the result of, activations in between passed over."""
    node = next((n for n in model.graph if n.name == tap.node), None)
    while node is not None and node.op_type in _PASSIVE:
        varying = [v for v in node.inputs if v is not None and v.const_value is None and not _stored(v)]
        node = varying[0].producer() if len(varying) == 1 else None
        if node is not None and node.op_type in (QUANTIZE, DEQUANTIZE):
            return None
    if node is None or node.op_type not in PRODUCTS:
        return None
    return next((w for v in node.inputs[:2] if v is not None and (w := _constant(v)) is not None), None)


def _stored(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and all(v is None or v.const_value is not None for v in node.inputs)


def _constant(value: ir.Value) -> Weights | None:
    if value.const_value is not None:
        return Weights(value.name or "", value.const_value.numpy().astype(np.float32))
    node = value.producer()
    if node is None or node.op_type != DEQUANTIZE or node.inputs[0] is None or node.inputs[0].const_value is None:
        return None
    integers = integers_of(node)
    stored = node.inputs[0].const_value.numpy()
    return None if integers is None else Weights(node.inputs[0].name or "", integers.real(stored), integers)
