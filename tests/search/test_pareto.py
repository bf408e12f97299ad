"""Fronts, dominance and choice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.budget import Budget, Violation
from edgewright.core.data import QualityFigure
from edgewright.core.digest import digest_json
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import FAILED, Candidate, Recipe
from edgewright.search import pareto

DEVICE = Device("local", "x86_64", "some processor", 2, (), 1, "Linux")
LIMIT = Violation("drop of top-1", 0.01, 0.02)


def make(
    name: str,
    speed: float = 1.0,
    quality: float = 0.9,
    *,
    width: float = 0.0,
    size: int = 100,
    energy: float | None = None,
    broken: tuple[Violation, ...] = (),
    threads: int = 1,
    batch: int = 1,
    reference_ms: float = 10.0,
    timed: bool = True,
    higher: bool = True,
) -> Candidate:
    p50 = reference_ms / speed
    ours, base = (Summary(v, v, v, v, v, 9) for v in (p50, reference_ms))
    timing = Timing(
        latency_ms=ours,
        reference_ms=base,
        speedup=Ratio(speed, speed * (1 - width), speed * (1 + width)),
        throughput=batch * 1000 / p50,
        load_ms=1.0,
        size_bytes=size,
        peak_memory_bytes=10 * size,
        energy_mj=energy,
        energy_note="",
        conditions=Conditions(threads, batch, None, None, 0.0, 9, 9),
    )
    figure = QualityFigure("top-1", quality, quality, quality, 100, "tune", higher)
    found = Measurement(digest_json(name), DEVICE, Quality((figure,)), None, timing if timed else None)
    return Candidate(name, "t", Recipe(name, ()), threads, batch, measurement=found, violations=broken)


points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=14)


@given(points)
def test_front_is_exactly_the_points_nobody_beats(found: list[tuple[float, float]]) -> None:
    def beats(i: int, j: int) -> bool:
        a, b = found[i], found[j]
        no_worse = a[0] <= b[0] and a[1] <= b[1]
        return no_worse and (a != b or i < j)

    expected = [j for j in range(len(found)) if not any(beats(i, j) for i in range(len(found)) if i != j)]
    assert list(pareto.nondominated(found)) == expected


@given(points, st.randoms())
def test_front_values_do_not_depend_on_the_order(found: list[tuple[float, float]], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ours = {found[i] for i in pareto.nondominated(found)}
    assert ours == {shuffled[i] for i in pareto.nondominated(shuffled)}


candidates = st.lists(
    st.builds(
        lambda speed, quality, width, broken, size: (speed, quality, width, broken, size),
        st.floats(0.1, 4.0),
        st.sampled_from([0.5, 0.8, 0.9, 0.91]),
        st.floats(0.0, 0.1),
        st.sampled_from([(), (), (LIMIT,)]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.slow
@given(candidates, st.sampled_from(["latency", "size", "memory", "throughput"]))
def test_winner_meets_the_budget_if_any_does_and_is_never_dominated(
    drawn: list[tuple[float, float, float, tuple[Violation, ...], int]], objective: str
) -> None:
    found = [make(str(i), s, q, width=w, broken=b, size=z) for i, (s, q, w, b, z) in enumerate(drawn)]
    budget = Budget(quality_drop=0.01)
    chosen = pareto.choose(found, budget, objective)
    assert chosen is not None
    winner, met = chosen
    assert met == any(not c.violations for c in found)
    if met:
        assert winner not in pareto.dominators(found, budget, objective)
        assert not next(c for c in found if c.id == winner).violations


@given(candidates)
def test_nobody_that_meets_the_budget_is_faster_than_the_winner_beyond_its_interval(
    drawn: list[tuple[float, float, float, tuple[Violation, ...], int]],
) -> None:
    found = [make(str(i), s, q, width=w) for i, (s, q, w, _, _) in enumerate(drawn)]
    chosen = pareto.choose(found, Budget(), "latency")
    assert chosen is not None
    winner = next(c for c in found if c.id == chosen[0])
    fastest = max(found, key=lambda c: pareto.speeds(found)[c.id].value)
    assert pareto.speeds(found)[winner.id].value >= pareto.speeds(found)[fastest.id].low


@given(candidates)
def test_a_dominator_is_earlier_no_slower_and_no_worse(
    drawn: list[tuple[float, float, float, tuple[Violation, ...], int]],
) -> None:
    found = [make(str(i), s, q, broken=b) for i, (s, q, _, b, _) in enumerate(drawn)]
    by_id = {c.id: c for c in found}
    cost = pareto.costs(found, "latency")
    for loser, other in pareto.dominators(found, Budget(quality_drop=0.01), "latency").items():
        assert int(other) < int(loser)
        assert cost[other] <= cost[loser]
        assert pareto.quality_of(by_id[other]) >= pareto.quality_of(by_id[loser])


def test_latency_is_ranked_by_ratio_not_by_milliseconds_of_another_run() -> None:
    # The second ran while the machine was twice as slow: more milliseconds, yet the better ratio.
    quiet, noisy = make("a", 1.2, reference_ms=10.0), make("b", 1.8, reference_ms=20.0)
    assert pareto.choose([quiet, noisy], Budget(), "latency") == ("b", True)


def test_equal_within_the_interval_goes_to_the_less_aggressive() -> None:
    assert pareto.choose([make("a", 1.95), make("b", 2.0, width=0.03)], Budget(), "latency") == ("a", True)
    assert pareto.choose([make("a", 1.93), make("b", 2.0, width=0.03)], Budget(), "latency") == ("b", True)


def test_ratios_of_several_settings_get_one_denominator() -> None:
    # With two threads the original itself runs 1.8 times faster, so 1.5x there beats 2x on one thread.
    one = make("one", 2.0, threads=1, reference_ms=18.0)
    two = make("two", 1.5, threads=2, reference_ms=10.0)
    assert pareto.speeds([one, two])["two"].value == pytest.approx(1.5 * 18 / 10)
    assert pareto.choose([one, two], Budget(), "latency") == ("two", True)


def test_throughput_counts_the_samples_of_a_batch() -> None:
    single = make("single", 1.5, batch=1, reference_ms=10.0)
    batched = make("batched", 1.2, batch=8, reference_ms=60.0)
    assert pareto.choose([single, batched], Budget(), "latency") == ("single", True)
    assert pareto.choose([single, batched], Budget(), "throughput") == ("batched", True)


def test_size_memory_and_energy_are_minimised() -> None:
    big, small = make("big", 3.0, size=300, energy=1.0), make("small", 1.0, size=100, energy=5.0)
    assert pareto.choose([big, small], Budget(), "size") == ("small", True)
    assert pareto.choose([big, small], Budget(), "memory") == ("small", True)
    assert pareto.choose([big, small], Budget(), "energy") == ("big", True)


def test_unreadable_energy_falls_back_to_latency() -> None:
    found = [make("slow", 1.0), make("fast", 2.0)]
    assert pareto.deciding_objective(found, Budget(), "energy") == "latency"
    assert pareto.choose(found, Budget(), "energy") == ("fast", True)


def test_nearest_is_chosen_by_the_sum_of_relative_excess() -> None:
    far, near = Violation("drop of top-1", 0.01, 0.05), Violation("size in bytes", 100.0, 150.0)
    unknown = Violation("energy in mJ", 1.0, None)
    found = [make("far", broken=(far,)), make("unknown", broken=(unknown,)), make("near", broken=(near, near))]
    assert pareto.choose(found, Budget(), "latency") == ("near", False)
    assert pareto.choose(found[:2], Budget(), "latency") == ("far", False)


def test_untimed_candidate_cannot_meet_a_limit_on_cost() -> None:
    untimed = make("untimed", timed=False)
    assert pareto.choose([untimed], Budget(size_bytes=10), "latency") == ("untimed", False)
    assert pareto.choose([untimed], Budget(quality_drop=0.1), "latency") == ("untimed", True)


def test_what_failed_is_never_chosen() -> None:
    failed = replace(make("failed", 9.0), verdict=FAILED)
    empty = Candidate("none", "t", Recipe("none", ()), 1, 1)
    assert pareto.choose([failed, empty], Budget(), "latency") is None
    assert pareto.choose([failed, make("slow", 0.5)], Budget(), "latency") == ("slow", True)
    assert pareto.front([failed, empty], "latency") == ()


def test_front_reads_the_direction_of_the_metric() -> None:
    good, bad = make("good", 1.0, 0.1, higher=False), make("bad", 1.0, 0.3, higher=False)
    assert pareto.front([good, bad], "latency") == ("good",)


def test_nan_quality_is_on_no_front() -> None:
    assert pareto.front([make("nan", 2.0, math.nan), make("ok", 1.0)], "latency") == ("ok",)


def test_unknown_objective_is_an_error() -> None:
    with pytest.raises(ValueError, match="beauty"):
        pareto.costs([make("a")], "beauty")
