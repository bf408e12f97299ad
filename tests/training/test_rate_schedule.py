"""The learning rate over the steps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.training.schedule import factor

SCHEDULES = ("cosine", "one-cycle", "linear", "constant")


@given(st.integers(1, 400), st.sampled_from(SCHEDULES), st.floats(0, 0.9))
def test_it_rises_once_and_falls_once(steps: int, schedule: str, warmup: float) -> None:
    rates = [factor(step, steps, schedule, warmup) for step in range(steps)]
    peak = rates.index(max(rates))
    assert all(0 <= rate <= 1 + 1e-12 for rate in rates)
    assert all(a <= b + 1e-12 for a, b in pairwise(rates[: peak + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(rates[peak:]))
    assert rates[0] > 0


@pytest.mark.parametrize(
    ("schedule", "first", "middle", "last"),
    [("cosine", 1, 0.5, 0), ("linear", 1, 0.5, 0), ("constant", 1, 1, 1), ("one-cycle", 0.04, 0.75, 0)],
)
def test_known_points(schedule: str, first: float, middle: float, last: float) -> None:
    found = [factor(step, 10_000, schedule, 0.0) for step in (0, 5_000, 9_999)]
    assert found == pytest.approx([first, middle, last], abs=1e-3)


def test_warmup_ends_where_it_should() -> None:
    rates = [factor(step, 100, "constant", 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert set(rates[10:]) == {1.0}
