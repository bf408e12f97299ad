"""Pools and blocks that TensorFlow Lite lacks, in operators that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, numbers
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.lowering.apply import Lowering, Rule

_POOLING = ("kernel_shape", "strides", "dilations", "pads", "auto_pad", "ceil_mode")
_KEEP_CHANNELS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", QUANTIZE, DEQUANTIZE}
)


def ceiled_pool(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """Rounds sizes down again where rounding up makes a window that begins behind the input.

    PyTorch and ONNX Runtime leave that window out, ONNX's shape inference counts it. What no window reaches then is cut
    off, by a negative pad if need be; where pads do not count, those that rounding up adds become pads like others.
    """
    shape, kernel = lowering.shape(), node.attributes.get_ints("kernel_shape")
    inferred = static_shape(node.outputs[0])
    if not node.attributes.get_int("ceil_mode", 0) or not shape or not inferred or not kernel or len(node.outputs) > 1:
        return None
    rank = len(kernel)
    strides, dilations = (node.attributes.get_ints(n) or [1] * rank for n in ("strides", "dilations"))
    pads = list(node.attributes.get_ints("pads") or [0] * 2 * rank)
    counted = bool(node.attributes.get_int("count_include_pad", 0))
    spans = [n + pads[i] + pads[rank + i] - (kernel[i] - 1) * dilations[i] - 1 for i, n in enumerate(shape[2:])]
    over = [-span % s for span, s in zip(spans, strides, strict=True)]
    starts = [span + more for span, more in zip(spans, over, strict=True)]
    behind = [o > 0 and last >= n + pads[i] for i, (o, last, n) in enumerate(zip(over, starts, shape[2:], strict=True))]
    if not any(behind):
        return None
    for axis, (more, left_out) in enumerate(zip(over, behind, strict=True)):
        pads[rank + axis] += more - strides[axis] if left_out else 0 if counted else more
    kept = {name: attribute.value for name, attribute in node.attributes.items()}
    made = lowering.add(node.op_type, [node.inputs[0]], **{**kept, "pads": pads, "ceil_mode": int(counted)})
    made.shape = ir.Shape(
        [*shape[:2], *((o // s) + (not out) for o, s, out in zip(starts, strides, behind, strict=True))]
    )
    return [made]


def lp_pool(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """The root of an average of powers: pads count, they add nothing to the sum."""
    kernel = node.attributes.get_ints("kernel_shape") or ()
    p = node.attributes.get_int("p", 2) or 2
    kept = {name: node.attributes[name].value for name in _POOLING if name in node.attributes}
    if kept.get("ceil_mode"):
        return None
    powers = _powers(lowering, node.inputs[0], p)
    mean = lowering.add("AveragePool", [powers], count_include_pad=1, **kept)
    return [_root(lowering, lowering.add("Mul", [mean, np.asarray([np.prod(kernel)], np.float32)]), p)]


def global_lp_pool(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """The same over all of space."""
    shape = lowering.shape()
    if shape is None or len(shape) < 3:
        return None
    p = node.attributes.get_int("p", 2) or 2
    mean = lowering.add("GlobalAveragePool", [_powers(lowering, node.inputs[0], p)])
    return [_root(lowering, lowering.add("Mul", [mean, np.asarray([np.prod(shape[2:])], np.float32)]), p)]


def _powers(lowering: Lowering, x: ir.Value | None, p: int) -> ir.Value:
    if p == 2:
        return lowering.add("Mul", [x, x])
    size = lowering.add("Abs", [x])
    return size if p == 1 else lowering.add("Pow", [size, np.asarray([p], np.float32)])


def _root(lowering: Lowering, x: ir.Value, p: int) -> ir.Value:
    if p == 1:
        return x
    return lowering.add("Sqrt", [x]) if p == 2 else lowering.add("Pow", [x, np.asarray([1.0 / p], np.float32)])


def depth_to_space(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """The mode CRD becomes DCR where a convolution before it can give its channels in that order."""
    size = node.attributes.get_int("blocksize", 1) or 1
    convolution = _source(node.inputs[0])
    shape = lowering.shape()
    if node.attributes.get_string("mode", "DCR") != "CRD" or convolution is None or not shape:
        return None
    if (convolution.attributes.get_int("group", 1) or 1) > 1 or not all(
        value is None or stored(value) for value in convolution.inputs[1:]
    ):
        return None
    order = np.arange(shape[1]).reshape(-1, size * size).T.reshape(-1)
    lowering.at(convolution)
    for index in range(1, len(convolution.inputs)):
        value = convolution.inputs[index]
        if value is not None:
            convolution.replace_input_with(index, reordered(lowering, value, order))
    return [lowering.at(node).add("DepthToSpace", [node.inputs[0]], blocksize=size, mode="DCR")]


def _source(value: ir.Value | None) -> ir.Node | None:
    """Returns the convolution that a value comes from, through what treats every channel alike."""
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None or node.op_type == "Conv":
            return node
        scales = numbers(node.inputs[1]) if node.op_type in (QUANTIZE, DEQUANTIZE) else None
        if node.op_type not in _KEEP_CHANNELS or (scales is not None and scales.size > 1):
            return None
        value = node.inputs[0]
    return None


def stored(value: ir.Value) -> bool:
    """Says whether a value is constant, as floats or as integers behind a DequantizeLinear."""
    node = value.producer()
    return numbers(node.inputs[0] if node is not None and node.op_type == DEQUANTIZE else value) is not None


def reordered(lowering: Lowering, value: ir.Value, order: NDArray[np.intp], *, axis: int = 0) -> ir.Value:
    """Returns constant weights or a bias with one axis in another order, quantised as they were.

    Args:
        lowering: Adds them.
        value: Constant, as floats or as integers behind a DequantizeLinear.
        order: New place -> old place.
        axis: The axis; of several scales only axis 0 has one each.
    """
    array = numbers(value)
    if array is not None:
        return lowering.constant(array.take(order, axis), "reordered")
    node = value.producer()
    assert node is not None
    content, *parameters = [None if given is None else numbers(given) for given in node.inputs]
    assert content is not None
    moved = [a if a is None or a.size == 1 or axis else a[order] for a in parameters]
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return lowering.add(DEQUANTIZE, [content.take(order, axis), *moved], **attributes)


RULES: Mapping[str, Rule] = {
    "MaxPool": ceiled_pool,
    "AveragePool": ceiled_pool,
    "LpPool": lp_pool,
    "GlobalLpPool": global_lp_pool,
    "DepthToSpace": depth_to_space,
}
