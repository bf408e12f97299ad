"""Range methods: what they promise on any histogram, and what they do on shapes that matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid, activation_grid, dequantise, parameters, quantise
from edgewright.graph.ranges import METHODS, Chosen, choose, clipped, error_of, union
from edgewright.graph.statistics import TensorStatistics
from edgewright.graph.statistics.histogram import bin_values, exponent_for, refit, span

UINT8, INT8 = activation_grid("uint8", False), activation_grid("int8", True)
GRIDS = [(UINT8, False), (INT8, True), (activation_grid("int16", True), True)]
finite = st.floats(-1e4, 1e4, width=32)


def statistics(values: np.ndarray, bins: int = 4096) -> TensorStatistics:
    values = np.asarray(values, np.float32)
    low, high = float(values.min()), float(values.max())
    exponent = exponent_for(low, high, bins)
    first, size = span(low, high, exponent)
    counts = bin_values(values, first, exponent, size)
    return TensorStatistics(low, high, counts, exponent, bin_values(values[1::2], first, exponent, size))


def tail(count: int = 20000) -> np.ndarray:
    """Almost everything within 4, a few values of up to 400."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.standard_normal(count), rng.uniform(100, 400, 4)])


def real_error(values: np.ndarray, low: float, high: float, grid: Grid, symmetric: bool) -> float:
    scale, zero = parameters(np.asarray(low), np.asarray(high), grid, symmetric)
    values = np.asarray(values, np.float32)
    back = dequantise(quantise(values, scale, zero, grid), scale, zero)
    return float(np.mean((back - values).astype(np.float64) ** 2))


@settings(max_examples=60)
@given(st.lists(finite, min_size=1, max_size=300), st.sampled_from(METHODS), st.sampled_from(GRIDS))
def test_every_range_contains_zero_and_stays_within_the_extremes(
    values: list[float], method: str, kind: tuple[Grid, bool]
) -> None:
    seen = statistics(np.asarray(values), 256)
    found = choose(seen, method, *kind)
    assert min(seen.low, 0.0) <= found.low <= 0.0 <= found.high <= max(seen.high, 0.0)
    assert found.title


@settings(max_examples=60)
@given(st.lists(finite, min_size=1, max_size=300), st.sampled_from(GRIDS), st.integers(2, 512))
def test_least_error_never_exceeds_that_of_the_extremes(
    values: list[float], kind: tuple[Grid, bool], bins: int
) -> None:
    seen = statistics(np.asarray(values), bins)
    found, everything = choose(seen, "mse", *kind), choose(seen, "minmax", *kind)
    assert error_of(seen, found.low, found.high, *kind) <= error_of(seen, everything.low, everything.high, *kind)


@pytest.mark.parametrize("kind", GRIDS[:2], ids=["uint8", "int8"])
@pytest.mark.parametrize("shrink", [1.0, 0.5, 0.1])
def test_expected_error_is_the_real_one(kind: tuple[Grid, bool], shrink: float) -> None:
    values = np.random.default_rng(1).laplace(0.3, 1.0, 100_000)
    seen = statistics(values)
    low, high = shrink * seen.low, shrink * seen.high
    assert error_of(seen, low, high, *kind) == pytest.approx(real_error(values, low, high, *kind), rel=0.02)


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", GRIDS[:2], ids=["uint8", "int8"])
def test_least_error_is_close_to_that_of_a_fine_search(kind: tuple[Grid, bool]) -> None:
    values = np.random.default_rng(2).standard_t(4, 50_000)
    seen = statistics(values)
    found = choose(seen, "mse", *kind)
    shares = np.exp2(-np.linspace(0, 6, 60))
    best = min(real_error(values, a * seen.low, b * seen.high, *kind) for a in shares[::2] for b in shares[::2])
    assert real_error(values, found.low, found.high, *kind) <= 1.02 * best


@pytest.mark.parametrize("kind", GRIDS[:2], ids=["uint8", "int8"])
@pytest.mark.parametrize("method", ["entropy", "auto", "mse"])
def test_a_heavy_tail_is_clipped(kind: tuple[Grid, bool], method: str) -> None:
    values = np.random.default_rng(3).standard_t(4, 200_000)
    seen = statistics(values)
    found = choose(seen, method, *kind)
    assert found.high - found.low < 0.9 * (seen.high - seen.low)
    share = clipped(seen, found.low, found.high)
    assert share == pytest.approx(np.mean((values < found.low) | (values > found.high)), abs=1e-5)
    assert 0 < share < 0.02


def test_percentile_and_entropy_drop_a_few_far_values_that_error_keeps() -> None:
    seen = statistics(tail())
    assert choose(seen, "percentile", UINT8, False, 99.9).high < 5
    assert choose(seen, "entropy", UINT8, False).high < 10
    assert choose(seen, "mse", UINT8, False).high > 100


def test_a_relu_keeps_what_lies_above_its_peak_at_zero() -> None:
    values = np.maximum(np.random.default_rng(4).standard_normal(100_000) - 1, 0)
    seen = statistics(values)
    for method in METHODS:
        found = choose(seen, method, UINT8, False)
        assert found.low == 0.0
        assert found.high > 0.5 * seen.high, method


@pytest.mark.parametrize("value", [0.0, 3.5, -2.0])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_is_kept(value: float, method: str) -> None:
    found = choose(statistics(np.full(50, value)), method, UINT8, False)
    assert (found.low, found.high) == (min(value, 0.0), max(value, 0.0))


def test_auto_judges_by_samples_that_it_did_not_choose_from() -> None:
    """Far values in one half only: chosen from the other half, a narrow range errs much on this one."""
    rng = np.random.default_rng(5)
    even, odd = rng.standard_normal(4000), rng.standard_normal(4000)
    values = np.stack([even, odd], axis=1).ravel()
    values[1:2000:2] = 40.0
    seen = statistics(values)
    assert choose(seen, "auto", UINT8, False).title == "extremes"
    unsplit = dataclasses.replace(seen, odd=np.zeros(0, np.int64))
    np.testing.assert_array_equal(unsplit.halves[0], unsplit.halves[1])


def test_unknown_methods_and_missing_histograms_are_refused() -> None:
    with pytest.raises(ConfigError, match="minmax, percentile, mse, entropy, auto"):
        choose(TensorStatistics(0.0, 1.0), "widest", UINT8, False)
    for method in METHODS[1:]:
        with pytest.raises(ValueError, match="no histogram"):
            choose(TensorStatistics(0.0, 1.0), method, UINT8, False)
    assert choose(TensorStatistics(0.5, 1.0), "minmax", UINT8, False) == Chosen(0.0, 1.0, "extremes")


def test_one_scale_covers_all_ranges() -> None:
    a, b = Chosen(-1.0, 2.0, "extremes"), Chosen(-3.0, 1.0, "least squared error")
    assert union(a, b) == union(b, a) == Chosen(-3.0, 2.0, "extremes, least squared error")


@settings(max_examples=60)
@given(st.lists(st.lists(finite, min_size=1, max_size=40), min_size=1, max_size=6), st.integers(2, 300))
@example([[-3.0, -1e-45]], 2)
@example([[1.0], [-1e-45]], 2)
def test_histograms_are_the_same_whatever_came_first(parts: list[list[float]], bins: int) -> None:
    """Widened part by part, in order and reversed: equal to counting everything at its final width."""
    whole = statistics(np.concatenate(parts), bins)
    for order in (parts, parts[::-1]):
        counts, first, exponent = np.zeros(0, np.int64), 0, -100
        low, high = np.inf, -np.inf
        for part in order:
            values = np.asarray(part, np.float32)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            counts, first, exponent = refit(counts, first, exponent, low, high, bins)
            counts += bin_values(values, first, exponent, counts.size)
        assert exponent == whole.exponent
        assert counts.size <= bins
        np.testing.assert_array_equal(counts, whole.counts)
