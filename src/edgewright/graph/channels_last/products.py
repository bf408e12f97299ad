"""Matrix products: what is summed over may be stored in any order if both sides have the same one."""

from __future__ import annotations

from edgewright.graph.channels_last.constants import is_constant
from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import Inner, Layout, identity
from edgewright.graph.channels_last.sites import Rule, Site, State, unchanged

_ADJOINT = 256.0
"""Bytes that reading a matrix the other way is worth: less than an operator, but not for nothing."""


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
    return _nearest([s for s in _batched(site, layout) if s.takes[index] == layout], now)


def _leave_batched(site: Site, index: int, layout: Layout, now: State) -> State | None:
    return _nearest([s for s in _batched(site, layout) if s.gives[0] == layout], now)


def _batched(site: Site, like: Layout) -> list[State]:
    """Returns the states of a product of equal ranks whose batch axes are in the order of `like`.

    A B is computed from A and B, or from A and the stored B^T; (A B)^T = B^T A^T from B^T and A^T, or from B^T and the
    stored A. The stored matrix that is to be turned is always the right one of the product as computed: kernels read it
    either way.
    """
    rank = len(like.order)
    if like.inner or set(like.order[-2:]) != {rank - 1, rank - 2}:
        return []
    plain = Layout((*like.order[:-2], rank - 2, rank - 1))
    swapped = Layout((*like.order[:-2], rank - 1, rank - 2))
    states = [State((plain, plain), (plain,)), State((swapped, swapped), (swapped,), turned=True)]
    if not _is_known(site, 1):
        states.append(State((plain, swapped), (plain,), _ADJOINT, adjoint=True))
    if not _is_known(site, 0):
        states.append(State((plain, swapped), (swapped,), _ADJOINT, turned=True, adjoint=True))
    return states


def _is_known(site: Site, index: int) -> bool:
    value = site.node.inputs[index]
    return value is None or is_constant(value)


def _nearest(states: list[State], now: State) -> State | None:
    """Returns the state that keeps most of the present one."""

    def kept(state: State) -> int:
        return sum(a == b for a, b in zip((*state.takes, *state.gives), (*now.takes, *now.gives), strict=True))

    return max(states, key=kept, default=None)


def _rewrite_batched(site: Site, state: State, edit: Edit) -> None:
    node = site.node
    if state.turned:
        left, right = node.inputs
        node.replace_input_with(0, right)
        node.replace_input_with(1, left)
    if state.adjoint:
        edit.turn_right_matrix(node)


def _inner(layout: Layout | None, axis: int) -> Inner | None:
    return None if layout is None else next((part for part in layout.inner if part.axis == axis), None)


def _flat(rank: int, *parts: tuple[int, Inner | None]) -> Layout:
    return Layout(identity(rank).order, _parts(*parts))


def _parts(*parts: tuple[int, Inner | None]) -> tuple[Inner, ...]:
    found = [Inner(axis, part.sizes, part.order) for axis, part in parts if part is not None]
    return tuple(sorted(found, key=lambda part: part.axis))
