"""The best trial, the front, and what counts as finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.budget import Budget
from edgewright.errors import ConfigError
from edgewright.search.tuning.results import BOTH, QUALITY, SPEED, Outcome, Tried, Tuning, concluded, finished, goals
from edgewright.search.tuning.subject import choose_objective, choose_subject


def outcome(quality: float, speedup: float, quality_excess: float = 0.0, cost_excess: float = 0.0) -> Outcome:
    broken = ("too slow",) if quality_excess + cost_excess else ()
    return Outcome((), "met", quality, speedup, speedup, speedup, 10, quality_excess, cost_excess, broken)


def tuning(outcomes: list[Outcome], objective: str = QUALITY, higher: bool = True) -> Tuning:
    trials = tuple(Tried(n, "complete", {"x": n}, found) for n, found in enumerate(outcomes))
    return concluded(Tuning(1, "p", "s", "r", "t", objective, "top-1", higher, 0.9, ("x",), trials))


def test_quality_counts_inside_the_budget_and_nearness_outside_of_it() -> None:
    found = [outcome(0.95, 1.0, cost_excess=0.5), outcome(0.90, 2.0), outcome(0.91, 1.8)]
    assert tuning(found).best == 2
    assert tuning(found, SPEED).best == 1
    assert tuning([outcome(0.95, 1.0, cost_excess=0.5), outcome(0.9, 1.9, cost_excess=0.1)]).best == 1


def test_less_may_be_better() -> None:
    assert tuning([outcome(3.0, 1.0), outcome(2.0, 1.0)], higher=False).best == 1
    assert goals(outcome(3.0, 1.5), BOTH, -1.0) == (-3.0, 1.5)


def test_the_front_holds_what_nothing_beats_in_both_the_fastest_first() -> None:
    assert tuning([outcome(0.9, 2.0), outcome(0.95, 1.0), outcome(0.89, 1.9)], BOTH).front == (0, 1)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=12))
def test_the_best_inside_the_budget_is_on_the_front(points: list[tuple[float, float]]) -> None:
    found = tuning([outcome(q, s) for q, s in points], BOTH)
    assert found.best is not None
    best, front = found.trial(found.best).outcome, [found.trial(n).outcome for n in found.front]
    assert best is not None
    assert (best.quality, best.speedup) in [(o.quality, o.speedup) for o in front if o]


def test_failed_trials_are_no_winners_but_a_killed_worker_is_not_a_result() -> None:
    failed = Tried(1, "failed", {"x": 1}, Outcome((), "failed", error="out of reach"))
    killed, running = Tried(2, "failed", {"x": 2}), Tried(3, "running", {"x": 3})
    good = Tried(0, "complete", {"x": 0}, outcome(0.9, 1.0))
    assert finished((good, failed, killed, running)) == 2
    found = concluded(Tuning(1, "p", "s", "r", "t", QUALITY, "m", True, 0.9, ("x",), (failed, killed)))
    assert (found.best, found.front) == (None, ())


RANGED = {"passes": [{"name": "prune", "latency": {"low": 0.3, "high": 0.7}}]}
PLAIN = {"passes": [{"name": "prune", "latency": 0.5}]}


def test_the_only_table_with_ranges_is_tuned_and_of_several_the_one_that_is_named() -> None:
    assert choose_subject({"a": PLAIN, "b": RANGED}, None, "").title == "b"
    training = {"epochs": {"choices": [1, 2]}}
    assert choose_subject({"b": RANGED}, training, "training").table == training
    with pytest.raises(ConfigError, match="2 tables have ranges"):
        choose_subject({"b": RANGED}, training, "")
    with pytest.raises(ConfigError, match='no recipe "tranining"') as caught:
        choose_subject({"b": RANGED}, training, "tranining")
    assert "training" in caught.value.hint
    with pytest.raises(ConfigError, match="nothing to tune"):
        choose_subject({"a": PLAIN}, {"epochs": 1}, "")


def test_values_are_put_back_by_name() -> None:
    subject = choose_subject({"b": RANGED}, None, "")
    assert subject.named({"prune.latency": 0.42})["passes"] == [{"name": "prune", "latency": 0.42}]


def test_the_budget_says_what_is_left_to_seek() -> None:
    assert choose_objective("", Budget(quality_drop=0.01)) == BOTH
    assert choose_objective("", Budget(speedup=2.0)) == QUALITY
    assert choose_objective("speed", Budget()) == SPEED
    with pytest.raises(ConfigError, match='objective "fast"'):
        choose_objective("fast", Budget())
