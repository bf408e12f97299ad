"""Operators that name axes: the axes are renamed, the rank stays (or loses what is reduced)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import Inner, Layout, with_unit_axes
from edgewright.graph.channels_last.sites import Rule, Site, State

REDUCTIONS = frozenset({
    "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
})  # fmt: skip
_MOVES_TWICE = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
Rewrite = Callable[[Site, State, Edit], None]


def one_axis(default: int) -> Callable[[Site], Rule | None]:
    """Returns the maker of rules for operators with an attribute `axis`; inputs behind the first are parameters."""

    def make(site: Site) -> Rule | None:
        shapes = site.data()
        if shapes is None or len(shapes[0]) != len(shapes[1]):
            return None
        return _same({0}, {site.axis(default, len(shapes[0]))}, _axis_renamer(default))

    return make


def softmax(site: Site) -> Rule | None:
    """Returns the rule of Softmax and its kind: runtimes have it along the last stored axis, others cost two moves."""
    shapes = site.data()
    if shapes is None:
        return None
    rank = len(shapes[0])
    default = -1 if site.opset >= 13 else 1
    axis = site.axis(default, rank)
    if site.opset < 13 and axis != rank - 1:
        return None  # it spans all axes from there on
    return _same({0}, {axis}, _axis_renamer(default), twice=axis)


def concat(site: Site) -> Rule | None:
    """Returns the rule of Concat."""
    if site.data() is None or None in site.takes:
        return None
    return _same(set(range(len(site.takes))), {site.axis(0, len(site.takes[0] or ()))}, _axis_renamer(0))


def pad(site: Site) -> Rule | None:
    """Returns the rule of Pad with constant widths."""
    shapes = site.data()
    if shapes is None or site.opset < 11 or site.constant(1) is None or (site.has(3) and site.constant(3) is None):
        return None
    changed = {axis for axis, (a, b) in enumerate(zip(*shapes, strict=True)) if a != b}
    return _same({0}, changed | _listed(site, 3, len(shapes[0])), _rewrite_pad)


def slices(site: Site) -> Rule | None:
    """Returns the rule of Slice with constant axes."""
    shapes = site.data()
    if shapes is None or site.opset < 10 or (site.has(3) and site.constant(3) is None):
        return None
    axes = (
        _listed(site, 3, len(shapes[0]))
        if site.has(3)
        else set(range(len(site.takes[1] or ()) and (site.takes[1] or (0,))[0]))
    )
    return _same({0}, axes, _rewrite_slice)


def tile(site: Site) -> Rule | None:
    """Returns the rule of Tile with constant repeats."""
    repeats = site.constant(1)
    if site.data() is None or repeats is None:
        return None
    return _same({0}, {axis for axis, count in enumerate(repeats) if count != 1}, _rewrite_tile)


def normalised_tail(site: Site) -> Rule | None:
    """Returns the rule of LayerNormalization: the axes that it joins stay last, in order."""
    shapes = site.data()
    if shapes is None or any(value.uses() for value in site.node.outputs[1:]):
        return None
    first, rank = site.axis(-1, len(shapes[0])), len(shapes[0])

    def enter(site: Site, index: int, layout: Layout, now: State) -> State | None:
        if index or layout.order[first:] != tuple(range(first, rank)) or layout.inner_axes() & set(range(first, rank)):
            return None
        return State((layout, *now.takes[1:]), (layout, *now.gives[1:]))

    return Rule(enter, lambda site, index, layout, now: enter(site, 0, layout, now), lambda site, state, edit: None)


def reduction(site: Site) -> Rule | None:
    """Returns the rule of the Reduce operators: axes as attribute or constant input."""
    shapes = site.data()
    if shapes is None or (site.has(1) and site.constant(1) is None):
        return None
    rank = len(shapes[0])
    given = site.node.attributes.get_ints("axes") if not site.has(1) else [int(a) for a in site.constant(1).reshape(-1)]
    if not given and site.number("noop_with_empty_axes", 0):
        return None
    axes = {axis % rank for axis in given} if given else set(range(rank))
    return _reducing(axes, set(), rank, keep=bool(site.number("keepdims", 1)), rewrite=_rewrite_reduction)


def arg_extreme(site: Site) -> Rule | None:
    """Returns the rule of ArgMax and ArgMin."""
    shapes = site.data()
    if shapes is None:
        return None
    axis, rank = site.axis(0, len(shapes[0])), len(shapes[0])
    return _reducing({axis}, {axis}, rank, keep=bool(site.number("keepdims", 1)), rewrite=_axis_renamer(0))


def _same(data: set[int], locked: set[int], rewrite: Rewrite, *, twice: int | None = None) -> Rule:
    """Returns the rule of an operator with one layout for `data` inputs and all outputs; `locked` axes are whole."""

    def enter(site: Site, index: int, layout: Layout, now: State) -> State | None:
        if index not in data:
            return now if layout.plain else None
        if layout.inner_axes() & locked:
            return None
        takes = tuple(layout if i in data else known for i, known in enumerate(now.takes))
        cost = 0.0 if twice is None or layout.order[-1] == twice else 2.0 * _bytes(site)
        return State(takes, tuple(None if shape is None else layout for shape in site.gives), cost)

    return Rule(enter, lambda site, index, layout, now: enter(site, min(data), layout, now), rewrite)


def _reducing(axes: set[int], whole: set[int], rank: int, *, keep: bool, rewrite: Rewrite) -> Rule:
    left = [axis for axis in range(rank) if axis not in axes]

    def enter(site: Site, index: int, layout: Layout, now: State) -> State | None:
        if index or layout.inner_axes() & whole:
            return None
        place = {axis: axis if keep else left.index(axis) for axis in (range(rank) if keep else left)}
        inner = tuple(Inner(place[p.axis], p.sizes, p.order) for p in layout.inner if p.axis not in axes)
        out = Layout(tuple(place[axis] for axis in layout.order if axis in place), inner)
        return State((layout, *now.takes[1:]), (out,))

    def leave(site: Site, index: int, layout: Layout, now: State) -> State | None:
        back = dict(enumerate(range(rank) if keep else left))
        order = with_unit_axes([back[axis] for axis in layout.order], rank)
        return enter(site, 0, Layout(order, tuple(Inner(back[p.axis], p.sizes, p.order) for p in layout.inner)), now)

    return Rule(enter, leave, rewrite)


def _bytes(site: Site) -> int:
    return int(np.prod(site.takes[0] or ())) * 4


def _listed(site: Site, index: int, rank: int) -> set[int]:
    found = site.constant(index)
    return set() if found is None else {int(axis) % rank for axis in found.reshape(-1)}


def _axis_renamer(default: int) -> Rewrite:
    def rewrite(site: Site, state: State, edit: Edit) -> None:
        layout = state.takes[0]
        if layout is not None and not layout.plain:
            axis = site.axis(default, len(layout.order))
            site.node.attributes["axis"] = ir.AttrInt64("axis", layout.order.index(axis))

    return rewrite


def _moved(layout: Layout, axes: Iterable[int]) -> list[int]:
    rank = len(layout.order)
    return [layout.order.index(int(axis) % rank) for axis in axes]


def _rewrite_pad(site: Site, state: State, edit: Edit) -> None:
    layout, widths = state.takes[0], site.constant(1)
    if layout is None or layout.plain:
        return
    if site.has(3):
        edit.parameter(site.node, 3, np.array(_moved(layout, site.constant(3).reshape(-1)), np.int64))
    else:
        edit.parameter(site.node, 1, np.concatenate([half[list(layout.order)] for half in np.split(widths, 2)]))


def _rewrite_slice(site: Site, state: State, edit: Edit) -> None:
    layout = state.takes[0]
    if layout is None or layout.plain:
        return
    axes = site.constant(3).reshape(-1) if site.has(3) else range((site.takes[1] or (0,))[0])
    edit.parameter(site.node, 3, np.array(_moved(layout, axes), np.int64))


def _rewrite_tile(site: Site, state: State, edit: Edit) -> None:
    layout = state.takes[0]
    if layout is not None and not layout.plain:
        edit.parameter(site.node, 1, site.constant(1)[list(layout.order)])


def _rewrite_reduction(site: Site, state: State, edit: Edit) -> None:
    layout = state.takes[0]
    if layout is None or layout.plain:
        return
    if site.has(1):
        edit.parameter(site.node, 1, np.array(sorted(_moved(layout, site.constant(1).reshape(-1))), np.int64))
    elif site.node.attributes.get_ints("axes"):
        axes = sorted(_moved(layout, site.node.attributes.get_ints("axes") or ()))
        site.node.attributes["axes"] = ir.AttrInt64s("axes", axes)
