"""Operators that treat every element alike: any layout suits them, operands are broadcast."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import Inner, Layout, Shape, identity, stored_shape
from edgewright.graph.channels_last.sites import Rule, Site, State, unchanged

UNARY = frozenset({
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf",
    "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
})  # fmt: skip
BROADCAST = frozenset({
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip


def unary(site: Site) -> Rule | None:
    """Returns the rule of an operator with one tensor; further inputs are scalars."""
    return None if site.data() is None else Rule(_enter_one, _leave_one, unchanged)


def broadcast(site: Site) -> Rule | None:
    """Returns the rule of an operator whose operands are broadcast to its output."""
    return None if site.data() is None or None in site.takes else Rule(_enter, _leave, _fit_operands)


def expand(site: Site) -> Rule | None:
    """Returns the rule of Expand: broadcasting to a shape."""
    return None if site.data() is None else Rule(_enter_expand, _leave_expand, _rewrite_expand)


def quantiser(site: Site) -> Rule | None:
    """Returns the rule of QuantizeLinear and DequantizeLinear; in blocks they stay as they are."""
    if site.data() is None or site.number("block_size", 0) or len(site.takes[1] or ()) > 1:
        return None
    return Rule(_enter_quantiser, _leave_quantiser, _rewrite_quantiser)


def operand(layout: Layout, shape: Shape, rank: int) -> Layout:
    """Returns the layout of an operand of `shape` broadcast to `rank` axes that are stored as `layout`."""
    if math.prod(shape) == 1:
        return identity(len(shape))
    lead = rank - len(shape)
    inner = [Inner(p.axis - lead, p.sizes, p.order) for p in layout.inner if p.axis >= lead]
    kept = tuple(part for part in inner if shape[part.axis] == math.prod(part.sizes))
    return Layout(tuple(axis - lead for axis in layout.order if axis >= lead), kept)


def _frame(layout: Layout, rank: int) -> Layout:
    lead = rank - len(layout.order)
    if not lead:
        return layout
    inner = tuple(Inner(p.axis + lead, p.sizes, p.order) for p in layout.inner)
    return Layout((*range(lead), *(axis + lead for axis in layout.order)), inner)


def _enter_one(site: Site, index: int, layout: Layout, now: State) -> State | None:
    if index:
        return now if layout.plain else None
    return State((layout, *now.takes[1:]), tuple(None if shape is None else layout for shape in site.gives))


def _leave_one(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return _enter_one(site, 0, layout, now)


def _enter(site: Site, index: int, layout: Layout, now: State) -> State | None:
    shape = site.takes[index] or ()
    return None if math.prod(shape) == 1 else _leave(site, 0, _frame(layout, len(site.gives[0] or ())), now)


def _leave(site: Site, index: int, layout: Layout, now: State) -> State | None:
    rank = len(site.gives[0] or ())
    return State(tuple(operand(layout, shape or (), rank) for shape in site.takes), (layout,))


def _fit_operands(site: Site, state: State, edit: Edit) -> None:
    """Gives operands of lower rank the axes of size one that their places now need."""
    (frame,) = state.gives
    if frame is None or frame.plain:
        return
    for index, shape in enumerate(site.takes):
        if shape is not None and math.prod(shape) != 1:
            _fit(site.node, index, _fitted(frame, shape), edit)


def _fitted(frame: Layout, shape: Shape) -> Shape:
    lead = len(frame.order) - len(shape)
    full = tuple(shape[axis - lead] if axis >= lead else 1 for axis in frame.order)
    spare = next((i for i, axis in enumerate(frame.order) if axis >= lead), 0)
    return full[spare:] if all(size == 1 for size in full[:spare]) else full


def _fit(node: ir.Node, index: int, wanted: Shape, edit: Edit) -> None:
    value = node.inputs[index]
    if value is not None and edit.shape_now(value) != wanted:
        node.replace_input_with(index, edit.reshaped(value, wanted, node))


def _enter_expand(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return None if index else _leave_expand(site, 0, _frame(layout, len(site.gives[0] or ())), now)


def _leave_expand(site: Site, index: int, layout: Layout, now: State) -> State | None:
    rank = len(site.gives[0] or ())
    return State((operand(layout, site.takes[0] or (), rank), *now.takes[1:]), (layout,))


def _rewrite_expand(site: Site, state: State, edit: Edit) -> None:
    frame, shape = state.gives[0], site.gives[0]
    if frame is None or shape is None or frame.plain:
        return
    if math.prod(site.takes[0] or ()) != 1:
        _fit(site.node, 0, _fitted(frame, site.takes[0] or ()), edit)
    edit.parameter(site.node, 1, np.array(stored_shape(frame, shape), np.int64))


def _enter_quantiser(site: Site, index: int, layout: Layout, now: State) -> State | None:
    if index:
        return now if layout.plain else None
    rest = now.takes[1:]
    inner = [part for part in layout.inner if part.axis == _channel_axis(site)]
    if inner and len(site.takes[1] or ()) == 1:
        along = Layout((0,), (Inner(0, inner[0].sizes, inner[0].order),))
        rest = tuple(along if shape else None for shape in site.takes[1:])
    elif rest:
        rest = site.unmoved()[1:]
    return State((layout, *rest), (layout,))


def _leave_quantiser(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return _enter_quantiser(site, 0, layout, now)


def _channel_axis(site: Site) -> int:
    return site.axis(1, len(site.takes[0] or ()))


def _rewrite_quantiser(site: Site, state: State, edit: Edit) -> None:
    layout = state.takes[0]
    if layout is not None and len(site.takes[1] or ()) == 1 and len(layout.order) > 1:
        site.node.attributes["axis"] = ir.AttrInt64("axis", layout.order.index(_channel_axis(site)))
