"""Operators that only rename axes: where the layout allows, they cost nothing."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import Inner, Layout, stored_shape, through_reshape, with_unit_axes
from edgewright.graph.channels_last.sites import Rule, Site, State, unchanged

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def reshape(site: Site) -> Rule | None:
    """Returns the rule of Reshape, Flatten, Squeeze and Unsqueeze: factors of the shape are followed through."""
    return None if site.data() is None else Rule(_enter_reshape, _leave_reshape, _rewrite_reshape)


def transpose(site: Site) -> Rule | None:
    """Returns the rule of Transpose: it vanishes, its output is its input under another layout."""
    return None if site.data() is None else Rule(_enter_transpose, _leave_transpose, unchanged)


def permutation(node: ir.Node, rank: int) -> tuple[int, ...]:
    """Returns the attribute `perm` of a Transpose."""
    return tuple(node.attributes.get_ints("perm") or reversed(range(rank)))


def gather(site: Site) -> Rule | None:
    """Returns the rule of Gather with constant indices."""
    if site.data() is None or site.constant(1) is None:
        return None
    return Rule(_enter_gather, _leave_gather, _rewrite_gather)


def _enter_reshape(site: Site, index: int, layout: Layout, now: State) -> State | None:
    before, after = site.takes[0] or (), site.gives[0] or ()
    out = through_reshape(layout, before, after) if not index else None
    return None if out is None else State((layout, *now.takes[1:]), (out,))


def _leave_reshape(site: Site, index: int, layout: Layout, now: State) -> State | None:
    back = through_reshape(layout, site.gives[0] or (), site.takes[0] or ())
    return None if back is None else State((back, *now.takes[1:]), (layout,))


def _rewrite_reshape(site: Site, state: State, edit: Edit) -> None:
    taken, given, shape = state.takes[0], state.gives[0], site.gives[0]
    if taken is None or given is None or shape is None or (taken.plain and given.plain):
        return
    edit.become_reshape(site.node, stored_shape(given, shape))


def _enter_transpose(site: Site, index: int, layout: Layout, now: State) -> State | None:
    place = {axis: i for i, axis in enumerate(permutation(site.node, len(layout.order)))}
    return State((layout,), (_renamed(layout, place),))


def _leave_transpose(site: Site, index: int, layout: Layout, now: State) -> State | None:
    perm = permutation(site.node, len(layout.order))
    return State((_renamed(layout, dict(enumerate(perm))),), (layout,))


def _renamed(layout: Layout, name: dict[int, int]) -> Layout:
    inner = sorted((Inner(name[p.axis], p.sizes, p.order) for p in layout.inner), key=lambda part: part.axis)
    return Layout(tuple(name[axis] for axis in layout.order), tuple(inner))


def _enter_gather(site: Site, index: int, layout: Layout, now: State) -> State | None:
    axis, count = site.axis(0, len(layout.order)), len(site.takes[1] or ())
    if index or axis in layout.inner_axes():
        return None
    order: list[int] = []
    for old in layout.order:
        order += range(axis, axis + count) if old == axis else [_behind(old, axis, count)]
    inner = tuple(Inner(_behind(p.axis, axis, count), p.sizes, p.order) for p in layout.inner)
    return State((layout, *now.takes[1:]), (Layout(tuple(order), inner),))


def _behind(old: int, axis: int, count: int) -> int:
    return old if old < axis else old + count - 1


def _leave_gather(site: Site, index: int, layout: Layout, now: State) -> State | None:
    rank, count = len(site.takes[0] or ()), len(site.takes[1] or ())
    axis = site.axis(0, rank)
    gathered = set(range(axis, axis + count))
    back = {new: new if new < axis else new - count + 1 for new in layout.order if new not in gathered}
    order = [back.get(new, axis) for new in layout.order if new in back or new == axis]
    if gathered & layout.inner_axes():
        return None
    inner = tuple(Inner(back[p.axis], p.sizes, p.order) for p in layout.inner)
    state = _enter_gather(site, 0, Layout(with_unit_axes(order, rank), inner), now)
    return state if state is not None and state.gives[0] == layout else None


def _rewrite_gather(site: Site, state: State, edit: Edit) -> None:
    layout = state.takes[0]
    if layout is not None and not layout.plain:
        axis = layout.order.index(site.axis(0, len(layout.order)))
        site.node.attributes["axis"] = ir.AttrInt64("axis", axis)
