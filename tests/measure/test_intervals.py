"""Coverage of the intervals, checked exactly or by simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.decision import Decision
from edgewright.device.timing.rounds import median_interval
from edgewright.measure._intervals import difference, figure, tango, wilson
from edgewright.measure.metrics.classification import MacroF1, TopK
from edgewright.measure.metrics.regression import MeanAbsoluteError


@given(st.integers(1, 2000), st.data())
def test_wilson_holds_its_estimate_and_stays_in_range(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    low, high = wilson(hits, n)
    assert 0.0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1.0
    assert high - low > 0


def test_wilson_equals_a_published_example() -> None:
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@pytest.mark.parametrize(("n", "share"), [(50, 0.5), (100, 0.9), (185, 0.97), (450, 0.9)])
def test_wilson_covers_at_its_level(n: int, share: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        low, high = wilson(k, n)
        if low <= share <= high:
            covered += math.comb(n, k) * share**k * (1 - share) ** (n - k)
    assert 0.92 < covered < 0.98


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 400))
def test_tango_holds_its_estimate_and_is_antisymmetric(gained: int, lost: int, same: int) -> None:
    n = gained + lost + same
    if n == 0:
        return
    low, high = tango(gained, lost, n)
    assert -1.0 <= low <= (gained - lost) / n <= high <= 1.0
    assert tango(lost, gained, n) == pytest.approx((-high, -low), abs=1e-9)


def test_tango_equals_published_examples() -> None:
    # Tango 1998, table of the crossover trial of contact lens disinfection: b = 1, c = 0, n = 44.
    assert tango(1, 0, 44) == pytest.approx((-0.0599, 0.1184), abs=2e-3)
    # Without discordant pairs the bounds are z^2 / (n + z^2).
    z2 = 1.959963984540054**2
    assert tango(0, 0, 100) == pytest.approx((-z2 / (100 + z2), z2 / (100 + z2)), abs=1e-6)


@pytest.mark.sample(3)
@pytest.mark.parametrize(("gain", "loss"), [(0.02, 0.03), (0.01, 0.01), (0.1, 0.05)])
def test_tango_covers_at_its_level(gain: float, loss: float) -> None:
    draws = np.random.default_rng(0).multinomial(300, [gain, loss, 1 - gain - loss], size=1500)
    inside = [low <= gain - loss <= high for low, high in (tango(int(b), int(c), 300) for b, c, _ in draws)]
    assert 0.93 < np.mean(inside) < 0.98


@pytest.mark.slow
def test_bootstrap_of_a_mean_covers_at_its_level() -> None:
    rng, metric, inside = np.random.default_rng(0), MeanAbsoluteError(), 0
    for trial in range(200):
        found = figure(metric, rng.exponential(1.0, 80).tolist(), "tune", seed=trial)
        inside += found.low <= 1.0 <= found.high
    assert 0.88 < inside / 200 < 0.99


def test_paired_bootstrap_is_narrower_than_two_intervals() -> None:
    rng, metric = np.random.default_rng(0), MeanAbsoluteError()
    base = rng.exponential(1.0, 200)
    worse = (base + 0.05 + 0.01 * rng.random(200)).tolist()
    paired = difference(metric, worse, base.tolist(), "tune", seed=0)
    assert paired.value == pytest.approx(0.055, abs=2e-3)
    assert 0 < paired.low < paired.value < paired.high < 0.06
    alone = figure(metric, base.tolist(), "tune", seed=0)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)


def test_equal_contributions_differ_by_nothing() -> None:
    contributions = [[0, 0], [1, 1], [1, 0], [2, 2]] * 10
    paired = difference(MacroF1(), contributions, contributions, "tune", seed=0)
    assert (paired.low, paired.value, paired.high) == (0.0, 0.0, 0.0)


def test_proportions_use_wilson_and_tango() -> None:
    found, base = [1] * 90 + [0] * 10, [0] * 3 + [1] * 89 + [0] * 8
    shown = figure(TopK(1), found, "test", seed=0)
    assert (shown.low, shown.high) == wilson(90, 100)
    assert (shown.metric, shown.samples, shown.split) == ("top-1", 100, "test")
    paired = difference(TopK(1), found, base, "test", seed=0)
    assert (paired.low, paired.high) == tango(3, 2, 100)


def test_seed_fixes_the_bootstrap() -> None:
    values = np.random.default_rng(0).random(30).tolist()
    assert figure(MeanAbsoluteError(), values, "tune", 4) == figure(MeanAbsoluteError(), values, "tune", 4)
    assert figure(MeanAbsoluteError(), values, "tune", 4) != figure(MeanAbsoluteError(), values, "tune", 5)


@dataclass(frozen=True)
class _Median:
    """A third-party metric: nothing but the protocol."""

    name: str = "median"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> float:
        return 0.0

    def reduce(self, contributions: Sequence[Any]) -> float:
        return float(np.median(contributions))


def test_a_metric_with_only_the_protocol_gets_an_interval() -> None:
    found = figure(_Median(), np.random.default_rng(0).random(50).tolist(), "tune", 0)
    assert found.low < found.value < found.high


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=60))
@settings(max_examples=50)
def test_median_interval_holds_the_median(values: list[float]) -> None:
    low, high = median_interval(values)
    assert low <= float(np.median(values)) <= high


@pytest.mark.parametrize(("n", "expected"), [(6, (0, 5)), (10, (1, 8)), (20, (5, 14)), (5, None)])
def test_median_interval_ranks(n: int, expected: tuple[int, int] | None) -> None:
    # Ranks of the sign test at 5%, two-sided: Conover 1999, table A3.
    found = median_interval([float(v) for v in range(n)])
    assert found == (expected if expected else (-math.inf, math.inf))
