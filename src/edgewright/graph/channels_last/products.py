"""Matrix products: what is summed over may be stored in any order if both sides have the same one."""

from __future__ import annotations

from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import Inner, Layout, identity
from edgewright.graph.channels_last.sites import Rule, Site, State, unchanged


def gemm(site: Site) -> Rule | None:
    """Returns the rule of Gemm: order inside the summed axis and inside the columns, taken up by the weights."""
    return None if site.data() is None or None in site.takes else Rule(_enter_gemm, _leave_gemm, unchanged)


def matmul(site: Site) -> Rule | None:
    """Returns the rule of MatMul."""
    if site.data() is None or site.takes[1] is None or len(site.takes[0] or ()) < 2 or len(site.takes[1]) < 2:
        return None
    if len(site.takes[1]) == 2:
        return Rule(_enter_dense, _leave_dense, unchanged)
    if len(site.takes[1]) != len(site.takes[0] or ()):
        return None
    return Rule(_enter_batched, _leave_batched, _rewrite_batched)


def _enter_gemm(site: Site, index: int, layout: Layout, now: State) -> State | None:
    summed, rows = (0, 1) if site.number("transA", 0) else (1, 0)
    if index or layout.order != (0, 1) or rows in layout.inner_axes():
        return None
    return _gemm(site, _inner(layout, summed), _inner(now.gives[0], 1))


def _leave_gemm(site: Site, index: int, layout: Layout, now: State) -> State | None:
    if layout.order != (0, 1) or 0 in layout.inner_axes():
        return None
    return _gemm(site, _inner(now.takes[0], 0 if site.number("transA", 0) else 1), _inner(layout, 1))


def _gemm(site: Site, summed: Inner | None, columns: Inner | None) -> State:
    depth, width = (1, 0) if site.number("transB", 0) else (0, 1)
    takes = [_flat(2, (0 if site.number("transA", 0) else 1, summed)), _flat(2, (depth, summed), (width, columns))]
    if len(site.takes) > 2:
        shape = site.takes[2] or ()
        wide = bool(shape) and shape[-1] != 1
        takes.append(_flat(len(shape), (len(shape) - 1, columns if wide else None)))
    return State(tuple(takes), (_flat(2, (1, columns)),))


def _enter_dense(site: Site, index: int, layout: Layout, now: State) -> State | None:
    rank = len(site.takes[0] or ())
    if index or layout.order[-1] != rank - 1:
        return None
    return _dense(layout, _inner(layout, rank - 1), _inner(now.gives[0], rank - 1))


def _leave_dense(site: Site, index: int, layout: Layout, now: State) -> State | None:
    rank = len(site.takes[0] or ())
    if layout.order[-1] != rank - 1:
        return None
    return _dense(layout, _inner(now.takes[0], rank - 1), _inner(layout, rank - 1))


def _dense(frame: Layout, summed: Inner | None, columns: Inner | None) -> State:
    """Returns the state of [..., K] @ [K, N]: the leading axes in any order, the last as it may be ordered inside."""
    last = len(frame.order) - 1
    rows = tuple(part for part in frame.inner if part.axis != last)
    take = Layout(frame.order, rows + _parts((last, summed)))
    give = Layout(frame.order, rows + _parts((last, columns)))
    return State((take, _flat(2, (0, summed), (1, columns))), (give,))


def _enter_batched(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return _batched(site, layout)


def _leave_batched(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return _batched(site, layout)


def _batched(site: Site, layout: Layout) -> State | None:
    """Returns the state of a product of equal ranks, batch axes in one order; turned, it is (A B)^T = B^T A^T."""
    rank = len(layout.order)
    tail = layout.order[-2:]
    turned = tail == (rank - 1, rank - 2)
    if layout.inner or (not turned and tail != (rank - 2, rank - 1)):
        return None
    return State((layout, layout), (layout,), turned=turned)


def _rewrite_batched(site: Site, state: State, edit: Edit) -> None:
    if state.turned:
        left, right = site.node.inputs
        site.node.replace_input_with(0, right)
        site.node.replace_input_with(1, left)


def _inner(layout: Layout | None, axis: int) -> Inner | None:
    return None if layout is None else next((part for part in layout.inner if part.axis == axis), None)


def _flat(rank: int, *parts: tuple[int, Inner | None]) -> Layout:
    return Layout(identity(rank).order, _parts(*parts))


def _parts(*parts: tuple[int, Inner | None]) -> tuple[Inner, ...]:
    found = [Inner(axis, part.sizes, part.order) for axis, part in parts if part is not None]
    return tuple(sorted(found, key=lambda part: part.axis))
