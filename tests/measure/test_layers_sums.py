"""Sums, histograms, layouts and matching against plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgewright.core.parity import EXACT_DB
from edgewright.measure.layers.layouts import Layout, layouts
from edgewright.measure.layers.matching import CERTAIN, NAME, ORDER, VALUES, fit, match
from edgewright.measure.layers.sides import Integers, Tap
from edgewright.measure.layers.sums import BINS, Bins, Difference, histogram

FLOATS = arrays.arrays(
    np.float32, arrays.array_shapes(max_dims=2, max_side=40), elements=st.floats(-1000, 1000, width=32)
)


@given(FLOATS, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_sums_of_parts_are_those_of_the_whole(values: np.ndarray, parts: int) -> None:
    other = np.round(values)
    whole, pieces = Difference(), Difference()
    whole.add(values, other)
    for x, y in zip(np.array_split(values, parts), np.array_split(other, parts), strict=True):
        pieces.add(x, y)
    error = other.astype(np.float64) - values
    assert whole.noise == pytest.approx(float((error**2).sum()))
    assert pieces.noise == pytest.approx(whole.noise)
    assert pieces.sqnr_db == pytest.approx(whole.sqnr_db)
    assert whole.largest == pytest.approx(float(np.abs(error).max()))


def test_ratio_of_a_known_error() -> None:
    found = Difference()
    found.add(np.full(20_000, 10.0), np.full(20_000, 9.0))
    assert found.sqnr_db == pytest.approx(20.0)
    assert found.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("one", "other", "decibels"), [([1, 2], [1, 2], EXACT_DB), ([0, 0], [1, 0], -EXACT_DB), ([0, 0], [0, 0], EXACT_DB)]
)
def test_extreme_ratios_stay_finite(one: list[float], other: list[float], decibels: float) -> None:
    found = Difference()
    found.add(np.array(one, np.float32), np.array(other, np.float32))
    assert found.sqnr_db == decibels
    assert math.isfinite(found.cosine)


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    found = Difference()
    found.add(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, np.inf]))
    assert (found.not_finite, found.noise, found.largest) == (2, 0.0, 0.0)
    assert found.sqnr_db == -EXACT_DB


@given(st.lists(FLOATS, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_growing_histogram_loses_nothing(batches: list[np.ndarray]) -> None:
    bins = Bins()
    for batch in batches:
        bins.add(batch)
    found, every = bins.done(), np.concatenate([b.reshape(-1) for b in batches])
    assert found is not None
    assert sum(found.counts) == every.size
    slack = 1e-3 * max(abs(found.low), abs(found.high), 1e-6)
    assert found.low <= every.min() + slack
    assert found.high >= every.max() - slack
    middle = (found.low + found.high) / 2
    sure = int((every < middle - slack).sum()), int((every < middle + slack).sum())
    assert sure[0] <= sum(found.counts[: BINS // 2]) <= sure[1]


def test_a_histogram_of_nothing_is_none() -> None:
    assert histogram(np.array([np.nan, np.inf])) is None


@given(st.permutations([2, 3, 4]), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_every_layout_and_back(shape: list[int], ones: int) -> None:
    reference = np.arange(24).reshape(2, 3, 4)
    for order in layouts((2, 3, 4), (*shape, *[1] * ones)):
        candidate = order.to_candidate(reference, (*shape, *[1] * ones))
        assert candidate.shape == (*shape, *[1] * ones)
        assert np.array_equal(order.to_reference(candidate, (2, 3, 4)), reference)


def test_layout_of_channels_last() -> None:
    assert next(layouts((1, 3, 8, 8), (1, 8, 8, 3))) == Layout((2, 0, 1))
    assert list(layouts((1, 3, 8, 8), (1, 8, 4, 6))) == []


def tap(name: str, op: str, *names: str, node: str = "") -> Tap:
    return Tap(name, node or f"{name}_node", op, name, (name, *names))


RNG = np.random.default_rng(0)
A, B, C, D = (RNG.normal(size=(1, 3, 6, 6)).astype(np.float32) for _ in range(4))


def moved(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1))


def noisy(values: np.ndarray, amount: float = 0.05) -> np.ndarray:
    return (values + amount * np.random.default_rng(1).normal(size=values.shape)).astype(np.float32)


def test_values_find_the_pair_under_another_name_and_layout() -> None:
    ours, theirs = [tap("a", "Conv"), tap("b", "Relu")], [tap("x", "RELU"), tap("y", "CONV_2D")]
    values = {"a": A, "b": B}, {"x": moved(noisy(B)), "y": moved(noisy(A))}
    found, missing = match(ours, theirs, values, {})
    assert [(m.reference.tensor, m.candidate.tensor, m.how) for m in found] == [("a", "y", VALUES), ("b", "x", VALUES)]
    assert missing == {}
    assert np.array_equal(found[0].layout.to_reference(values[1]["y"], A.shape), noisy(A))


def test_a_name_wins_over_poor_values_but_not_over_a_far_better_neighbour() -> None:
    ours = [tap("conv", "Conv"), tap("norm", "BatchNormalization")]
    folded = {"conv": B, "norm": C}, {"conv": noisy(C)}
    found, missing = match(ours, [tap("conv", "Conv")], folded, {"conv": "fused"})
    assert [(m.reference.tensor, m.how) for m in found] == [("norm", VALUES)]
    assert missing == {"conv": "fused"}
    broken = {"conv": B, "norm": C}, {"conv": noisy(D)}
    found, _ = match(ours, [tap("conv", "Conv")], broken, {})
    assert [(m.reference.tensor, m.how) for m in found] == [("conv", NAME)]


def test_a_converter_may_call_the_activation_by_the_name_of_what_it_was_fused_into() -> None:
    ours = [tap("conv", "Conv"), tap("relu", "Relu")]
    values = {"conv": A, "relu": A.clip(min=0)}, {"conv": moved(noisy(A.clip(min=0)).clip(min=0))}
    assert fit(values[0]["conv"], values[1]["conv"])[0] > CERTAIN
    found, missing = match(ours, [tap("conv", "CONV_2D")], values, {})
    assert [m.reference.tensor for m in found] == ["relu"]
    assert list(missing) == ["conv"]


def test_between_certain_pairs_order_and_kind_decide() -> None:
    ours = [tap("a", "Conv"), tap("b", "Conv"), tap("c", "Conv")]
    theirs = [tap("x", "CONV_2D"), tap("y", "CONV_2D"), tap("z", "CONV_2D")]
    found, _ = match(ours, theirs, ({"a": A, "b": B, "c": C}, {"x": noisy(A), "y": D, "z": noisy(C)}), {})
    assert [(m.candidate.tensor, m.how) for m in found] == [("x", VALUES), ("y", ORDER), ("z", VALUES)]


def test_correlation_ignores_the_mean_that_every_sigmoid_has() -> None:
    near, _ = fit(0.9 + 0.01 * A, 0.9 + 0.01 * B)
    assert abs(near) < 0.3 < CERTAIN


@given(st.floats(0.001, 10), st.integers(0, 255), arrays.arrays(np.uint8, 20))
@settings(max_examples=40, deadline=None)
def test_integers_survive_the_way_through_real_values(scale: float, zero: int, stored: np.ndarray) -> None:
    integers = Integers("uint8", (float(np.float32(scale)),), (zero,))
    real = integers.real(stored)
    assert np.array_equal(integers.stored(real), stored)
    assert integers.low - 1e-6 <= real.min()
    assert real.max() <= integers.high * (1 + 1e-6) + 1e-6
