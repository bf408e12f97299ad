"""Layouts against NumPy: storing, restoring, reshaping, moving."""

from __future__ import annotations

import math
from itertools import permutations
from random import Random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.graph.channels_last.flow import Network
from edgewright.graph.channels_last.layouts import (
    Inner,
    Layout,
    Shape,
    channels_last,
    identity,
    key,
    moves,
    restored,
    stored,
    stored_shape,
    through_reshape,
)

SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=4).map(tuple)


def numbered(shape: Shape) -> Any:
    return np.arange(math.prod(shape)).reshape(shape)


def any_layout(shape: Shape, rng: Random) -> Layout:
    order = tuple(rng.sample(range(len(shape)), len(shape)))
    inner = []
    for axis, size in enumerate(shape):
        splits = [f for f in range(2, size) if size % f == 0]
        if splits and rng.random() < 0.4:
            inner.append(Inner(axis, (f := rng.choice(splits), size // f), (1, 0)))
    return Layout(order, tuple(inner))


def moved(array: Any, have: Layout, want: Layout, shape: Shape) -> Any:
    for move in moves(have, want, shape):
        array = array if move.split is None else array.reshape(move.split)
        array = array if move.perm is None else array.transpose(move.perm)
        array = array if move.joined is None else array.reshape(move.joined)
    return array


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_restoring_undoes_storing(shape: Shape, seed: int) -> None:
    layout = any_layout(shape, Random(seed))
    array = numbered(shape)
    there = stored(array, layout)
    assert there.shape == stored_shape(layout, shape)
    np.testing.assert_array_equal(restored(there, layout), array)


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_moves_lead_from_one_form_to_the_other(shape: Shape, seed: int) -> None:
    rng = Random(seed)
    have, want = any_layout(shape, rng), any_layout(shape, rng)
    array = numbered(shape)
    np.testing.assert_array_equal(moved(stored(array, have), have, want, shape), stored(array, want))


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(0, 10**6))
def test_layouts_of_one_sort_hold_the_same_sequence(shape: Shape, seed: int) -> None:
    rng = Random(seed)
    one, other = any_layout(shape, rng), any_layout(shape, rng)
    array = numbered(shape)
    same = np.array_equal(stored(array, one).ravel(), stored(array, other).ravel())
    if key(one, shape) == key(other, shape):
        assert same
    elif not (one.inner or other.inner):
        assert not same


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5), st.integers(0, 10**6))
def test_a_reshape_moves_nothing(factors: list[int], seed: int) -> None:
    """Wherever a layout comes through a reshape, the stored sequence is what the reshaped array has in it."""
    rng = Random(seed)
    before, after = grouped(factors, rng), grouped(factors, rng)
    layout = any_layout(before, rng)
    found = through_reshape(layout, before, after)
    array = numbered(before)
    if found is not None:
        np.testing.assert_array_equal(stored(array, layout).ravel(), stored(array.reshape(after), found).ravel())
        back = through_reshape(found, after, before)
        assert back is not None
        np.testing.assert_array_equal(stored(array, back).ravel(), stored(array, layout).ravel())
    elif not layout.inner and len(after) <= 2:
        assert not any(
            np.array_equal(stored(array.reshape(after), Layout(p)).ravel(), stored(array, layout).ravel())
            for p in permutations(range(len(after)))
        )


def grouped(factors: list[int], rng: Random) -> Shape:
    out = [1]
    for factor in factors:
        if rng.random() < 0.5:
            out.append(factor)
        else:
            out[-1] *= factor
    return tuple(out)


def test_a_flattened_map_keeps_its_order_inside() -> None:
    assert through_reshape(channels_last(4), (1, 3, 4, 5), (1, 60)) == Layout((0, 1), (Inner(1, (3, 20), (1, 0)),))
    assert through_reshape(channels_last(4), (1, 3, 1, 1), (1, 3)) == identity(2)
    assert through_reshape(channels_last(4), (1, 6, 4, 5), (1, 2, 3, 4, 5)) == Layout((0, 3, 4, 1, 2))
    assert through_reshape(Layout((0, 2, 1)), (2, 3, 4), (6, 4)) is None
    assert through_reshape(Layout((1, 0)), (4, 6), (6, 4)) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 9)), max_size=14))
def test_a_cut_is_the_least_of_all(inner: int, edges: list[tuple[int, int, int]]) -> None:
    network = Network(inner)
    kept = [(a % (inner + 2), b % (inner + 2), c) for a, b, c in edges]
    for a, b, c in kept:
        network.edge(a, b, c)

    def cost(side: frozenset[int]) -> int:
        return sum(c for a, b, c in kept if a in side and b not in side)

    sides = [frozenset({0, *(v + 2 for v in range(inner) if mask >> v & 1)}) for mask in range(1 << inner)]
    found = network.source_side()
    assert 1 not in found
    assert cost(found) == min(map(cost, sides))
