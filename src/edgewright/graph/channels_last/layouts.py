"""Orders in which a tensor may be stored, and what becomes of them in a reshape.

A layout is an order of axes, plus, for an axis that joins several (a flattened map), an order of the factors inside it.
Factors make Reshape a relabelling: [N, C, H, W] stored as N, H, W, C becomes, flattened, [N, C * H * W] whose last axis
is stored as H, W, C, and nothing has moved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Inner:
    """The order of the factors inside one axis.

    Attributes:
        axis: Of the tensor in ONNX order.
        sizes: Of the factors, in ONNX order; their product is the axis.
        order: Stored factor -> factor.
    """

    axis: int
    sizes: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor is stored: `stored = original.transpose(order)`, with `inner` orders inside some axes.

    Attributes:
        order: Stored axis -> axis.
        inner: By axis, ascending; axes left out are stored in order.
    """

    order: tuple[int, ...]
    inner: tuple[Inner, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether nothing is moved."""
        return not self.inner and all(axis == i for i, axis in enumerate(self.order))

    def inner_axes(self) -> frozenset[int]:
        """Returns the axes that are reordered inside."""
        return frozenset(part.axis for part in self.inner)


@cache
def identity(rank: int) -> Layout:
    """Returns the layout in which ONNX stores a tensor of `rank` axes."""
    return Layout(tuple(range(rank)))


@cache
def channels_last(rank: int) -> Layout:
    """Returns the layout [N, spatial..., C]."""
    return Layout((0, *range(2, rank), 1))


def stored_shape(layout: Layout, shape: Shape) -> Shape:
    """Returns the shape of the stored tensor."""
    return tuple(shape[axis] for axis in layout.order)


def key(layout: Layout, shape: Shape) -> tuple[object, ...]:
    """Returns what two layouts share whose stored tensors hold the same elements in the same sequence."""
    return (tuple(axis for axis in layout.order if shape[axis] != 1), layout.inner)


def stored(array: Any, layout: Layout) -> Any:
    """Returns `array`, which is in ONNX order, as `layout` stores it."""
    if layout.plain:
        return array
    sizes, sequence = _factors(layout, array.shape)
    return np.ascontiguousarray(array.reshape(sizes).transpose(sequence)).reshape(stored_shape(layout, array.shape))


def restored(array: Any, layout: Layout) -> Any:
    """Returns a stored `array` in ONNX order."""
    if layout.plain:
        return array
    shape = [0] * len(layout.order)
    for position, axis in enumerate(layout.order):
        shape[axis] = array.shape[position]
    sizes, sequence = _factors(layout, tuple(shape))
    return array.reshape([sizes[f] for f in sequence]).transpose(np.argsort(sequence)).reshape(shape)


def through_reshape(layout: Layout, before: Shape, after: Shape) -> Layout | None:
    """Returns how a reshaped tensor is stored when nothing moves, None where that is no layout.

    Args:
        layout: Of the tensor before.
        before: Its shape in ONNX order.
        after: The new shape in ONNX order.
    """
    if layout.plain:
        return identity(len(after))
    sizes, sequence = _factors(layout, before)
    found = _refined(sizes, after)
    if found is None:
        return None
    atoms, of_factor, of_axis = found
    return _gathered([atom for factor in sequence for atom in of_factor[factor]], atoms, of_axis)


def with_unit_axes(order: Sequence[int], rank: int) -> tuple[int, ...]:
    """Returns `order` completed by the axes it lacks, each behind its predecessor in ONNX order."""
    out = list(order)
    present = set(order)
    for axis in range(rank):
        if axis not in present:
            out.insert(out.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Move:
    """What turns one stored form into another: reshape to `split`, transpose by `perm`, reshape to `joined`.

    Attributes:
        split: None: not needed.
        perm: None: nothing moves.
        joined: None: not needed.
    """

    split: Shape | None
    perm: tuple[int, ...] | None
    joined: Shape | None


def moves(have: Layout, want: Layout, shape: Shape) -> tuple[Move, ...]:
    """Returns the steps from `have` to `want`, none where they are equal.

    Args:
        have: How it is stored.
        want: How it is wanted.
        shape: In ONNX order.
    """
    if have == want:
        return ()
    if key(have, shape) == key(want, shape):
        return (Move(None, None, stored_shape(want, shape)),)
    if not have.inner and not want.inner:
        return (Move(None, tuple(have.order.index(axis) for axis in want.order), None),)
    sizes, sequence = _factors(have, shape)
    wanted_sizes, wanted = _factors(want, shape)
    found = _refined(sizes, wanted_sizes)
    if found is None:
        plain = identity(len(shape))
        return (*moves(have, plain, shape), *moves(plain, want, shape))
    atoms, before, after = found
    first = [atom for factor in sequence for atom in before[factor]]
    last = [atom for factor in wanted for atom in after[factor]]
    return (_blockwise(first, last, atoms, stored_shape(want, shape)),)


def _blockwise(first: Sequence[int], last: Sequence[int], atoms: Sequence[int], target: Shape) -> Move:
    """Returns the move in the fewest axes: atoms that stay neighbours move as one."""
    place = {atom: i for i, atom in enumerate(last)}
    runs: list[list[int]] = []
    for atom in first:
        if runs and place[atom] == place[runs[-1][-1]] + 1:
            runs[-1].append(atom)
        else:
            runs.append([atom])
    perm = tuple(sorted(range(len(runs)), key=lambda i: place[runs[i][0]]))
    return Move(tuple(math.prod(atoms[a] for a in run) for run in runs), perm, target)


def _factors(layout: Layout, shape: Shape) -> tuple[list[int], list[int]]:
    """Returns the sizes of all factors in ONNX order, and the factors in the order in which they are stored."""
    inner = {part.axis: part for part in layout.inner}
    starts, sizes = [], list[int]()
    for axis, size in enumerate(shape):
        starts.append(len(sizes))
        sizes += inner[axis].sizes if axis in inner else (size,)
    sequence = list[int]()
    for axis in layout.order:
        order = inner[axis].order if axis in inner else (0,)
        sequence += [starts[axis] + k for k in order]
    return sizes, sequence


def _refined(left: Sequence[int], right: Sequence[int]) -> tuple[list[int], list[list[int]], list[list[int]]] | None:
    """Returns sizes whose runs multiply to the entries of both sides, and the runs of each; None: there are none."""
    atoms: list[int] = []
    runs: tuple[list[list[int]], list[list[int]]] = [[] for _ in left], [[] for _ in right]
    queues = [[(i, size) for i, size in enumerate(side) if size != 1][::-1] for side in (left, right)]
    while queues[0] and queues[1]:
        (i, x), (j, y) = queues[0].pop(), queues[1].pop()
        step = min(x, y)
        if x % step or y % step:
            return None
        runs[0][i].append(len(atoms))
        runs[1][j].append(len(atoms))
        atoms.append(step)
        for queue, index, rest in ((queues[0], i, x // step), (queues[1], j, y // step)):
            if rest > 1:
                queue.append((index, rest))
    return None if queues[0] or queues[1] else (atoms, *runs)


def _gathered(sequence: Sequence[int], atoms: Sequence[int], of_axis: Sequence[Sequence[int]]) -> Layout | None:
    """Returns the layout of axes made of `of_axis` when atoms are stored in `sequence`; None: an axis is torn apart."""
    owner = {atom: axis for axis, run in enumerate(of_axis) for atom in run}
    order: list[int] = []
    within: dict[int, list[int]] = {}
    for atom in sequence:
        axis = owner[atom]
        if not order or order[-1] != axis:
            if axis in within:
                return None
            order.append(axis)
            within[axis] = []
        within[axis].append(atom)
    inner = [_inner(axis, within[axis], atoms) for axis in sorted(within)]
    return Layout(with_unit_axes(order, len(of_axis)), tuple(part for part in inner if part is not None))


def _inner(axis: int, run: Sequence[int], atoms: Sequence[int]) -> Inner | None:
    """Returns the inner order of an axis whose atoms are stored as `run`, None where they stand in order."""
    blocks: list[list[int]] = []
    for atom in run:
        if blocks and atom == blocks[-1][-1] + 1:
            blocks[-1].append(atom)
        else:
            blocks.append([atom])
    if len(blocks) == 1:
        return None
    ranked = sorted(range(len(blocks)), key=lambda i: blocks[i][0])
    sizes = tuple(math.prod(atoms[a] for a in blocks[i]) for i in ranked)
    return Inner(axis, sizes, tuple(ranked.index(i) for i in range(len(blocks))))
