"""Reductions, and functions along an axis, in terms of simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.arithmetic import Made, Maths, number


def _old_softmax(lowering: Lowering, node: ir.Node) -> Made:
    """Before opset 13 all axes from `axis` on count as one."""
    shape = lowering.shape(0)
    if shape is None or lowering.model.opset_imports.get("", 13) >= 13:
        return None
    axis = axis_of(node, 1) % max(len(shape), 1)
    return None if axis == len(shape) - 1 else [_flattened(lowering, node, node.op_type, shape, axis)]


def _flattened(lowering: Lowering, node: ir.Node, op: str, shape: Sequence[int], axis: int) -> ir.Value:
    flat = np.asarray([int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))], np.int64)
    made = lowering.add(op, [lowering.add("Reshape", [node.inputs[0], flat])], axis=1)
    return lowering.add("Reshape", [made, np.asarray(shape, np.int64)])


def axis_of(node: ir.Node, default: int) -> int:
    """Returns the attribute `axis`."""
    found = node.attributes.get_int("axis", default)
    return default if found is None else found


def _norm(lowering: Lowering, node: ir.Node) -> Made:
    shape = lowering.shape(0)
    if shape is None or node.inputs[0] is None:
        return None
    axis, order = axis_of(node, -1) % len(shape), node.attributes.get_int("p", 2)
    x = node.inputs[0]
    m = Maths(lowering)
    if order == 1:
        total = reduced(lowering, "ReduceSum", m("Abs", x), [axis])
        return [m("Div", x, m("Where", m("Equal", total, number(0)), number(1), total))]
    return None


def reduced(lowering: Lowering, op: str, x: ir.Value, axes: Sequence[int], *, keep: bool = True) -> ir.Value:
    """Adds a Reduce node, its axes an input or an attribute as the opset wants them."""
    opset = lowering.model.opset_imports.get("", 18)
    if opset >= (13 if op == "ReduceSum" else 18):
        return lowering.add(op, [x, np.asarray(axes, np.int64)], keepdims=int(keep))
    return lowering.add(op, [x], axes=list(axes), keepdims=int(keep))


def _again(lowering: Lowering, node: ir.Node, op: str, x: ir.Value) -> ir.Value:
    """The node's own axes in another reduction."""
    axes, rank = axes_of(lowering, node), len(lowering.shape(0) or ())
    if axes is None:
        return x
    keep = node.attributes.get_int("keepdims", 1) == 1
    return reduced(lowering, op, x, axes or list(range(rank)), keep=keep)


def axes_of(lowering: Lowering, node: ir.Node) -> list[int] | None:
    """Returns the axes of a Reduce node, empty for all, None where nothing is reduced."""
    said = node.attributes.get_ints("axes")
    found = lowering.number(1)
    axes = list(said) if said else [] if found is None else [int(a) for a in found.reshape(-1)]
    return None if not axes and node.attributes.get_int("noop_with_empty_axes", 0) == 1 else axes


def _composed(write: Callable[[Maths, ir.Value, Callable[[str, ir.Value], ir.Value]], ir.Value]) -> Rule:
    def rule(lowering: Lowering, node: ir.Node) -> Made:
        x = node.inputs[0]
        if x is None or lowering.shape(0) is None or (len(node.inputs) > 1 and node.inputs[1] and _computed(lowering)):
            return None
        m = Maths(lowering)
        return [write(m, x, lambda op, value: _again(lowering, node, op, value))]

    return rule


def _computed(lowering: Lowering) -> bool:
    return lowering.number(1) is None


def _log_sum_exp(lowering: Lowering, node: ir.Node) -> Made:
    """The largest is taken out first, so that exp cannot overflow."""
    shape, x = lowering.shape(0), node.inputs[0]
    axes = axes_of(lowering, node)
    if shape is None or x is None:
        return None
    if axes is None:
        return [lowering.add("Identity", [x])]
    m = Maths(lowering)
    axes = axes or list(range(len(shape)))
    top = m("Clip", reduced(lowering, "ReduceMax", x, axes), number(-3e38), number(3e38))
    total = m("Log", reduced(lowering, "ReduceSum", m("Exp", m("Sub", x, top)), axes))
    made = m("Add", total, top)
    if node.attributes.get_int("keepdims", 1) == 1:
        return [made]
    kept = [size for axis, size in enumerate(shape) if axis not in {a % len(shape) for a in axes}]
    return [lowering.add("Reshape", [made, np.asarray(kept, np.int64)])]


def _extreme(lowering: Lowering, node: ir.Node) -> Made:
    """Without the reduced axis, as kernels give it; put back by a Reshape, which costs nothing."""
    shape = lowering.shape(0)
    if shape is None or node.attributes.get_int("keepdims", 1) != 1:
        return None
    axis = axis_of(node, 0) % len(shape)
    last = node.attributes.get_int("select_last_index", 0)
    made = lowering.add(node.op_type, [node.inputs[0]], axis=axis, keepdims=0, select_last_index=last)
    kept = [1 if index == axis else size for index, size in enumerate(shape)]
    return [lowering.add("Reshape", [made, np.asarray(kept, np.int64)])]


def _hardmax(lowering: Lowering, node: ir.Node) -> Made:
    shape = lowering.shape(0)
    if shape is None:
        return None
    axis = axis_of(node, -1) % len(shape)
    found = lowering.add("ArgMax", [node.inputs[0]], axis=axis, keepdims=0)
    values = np.asarray([0, 1], np.float32)
    return [lowering.add("OneHot", [found, np.asarray([shape[axis]], np.int64), values], axis=axis)]


Again = Callable[[str, ir.Value], ir.Value]


def _l1(m: Maths, x: ir.Value, again: Again) -> ir.Value:
    return again("ReduceSum", m("Abs", x))


def _l2(m: Maths, x: ir.Value, again: Again) -> ir.Value:
    return m("Sqrt", again("ReduceSum", m("Mul", x, x)))


def _log_sum(m: Maths, x: ir.Value, again: Again) -> ir.Value:
    return m("Log", again("ReduceSum", x))


def _sum_square(m: Maths, x: ir.Value, again: Again) -> ir.Value:
    return again("ReduceSum", m("Mul", x, x))


RULES: Mapping[str, Rule] = {
    "Softmax": _old_softmax,
    "LogSoftmax": _old_softmax,
    "LpNormalization": _norm,
    "ReduceL1": _composed(_l1),
    "ReduceL2": _composed(_l2),
    "ReduceLogSum": _composed(_log_sum),
    "ReduceSumSquare": _composed(_sum_square),
    "ReduceLogSumExp": _log_sum_exp,
    "ArgMax": _extreme,
    "ArgMin": _extreme,
    "Hardmax": _hardmax,
}
