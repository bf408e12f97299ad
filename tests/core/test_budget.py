from __future__ import annotations

import pytest

from edgewright.core.budget import Budget, percentile
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")


def quality(value: float, *, higher: bool = True, changed: float = 0.0, **classes: float) -> Quality:
    return Quality((QualityFigure("m", value, value, value, 100, "tune", higher),), (), classes, changed)


def timing(p95: float = 10.0, speedup: float = 1.0, size: int = 100, energy: float | None = None) -> Timing:
    summary = Summary(p95 / 2, p95, p95, p95, p95, 10)
    conditions = Conditions(1, 1, None, None, 0.0, 5, 3)
    ratio = Ratio(speedup, speedup, speedup)
    return Timing(summary, summary, ratio, 100.0, 1.0, size, 1000, energy, "", conditions)


def measured(found: Quality, time: Timing | None = None) -> Measurement:
    return Measurement(Digest("sha256:0"), DEVICE, found, None, time)


def limits(budget: Budget, base: Quality, found: Quality, time: Timing | None = None) -> list[str]:
    return [v.limit for v in budget.check(base, measured(found, time))]


def test_no_limits_no_violations():
    assert limits(Budget(), quality(0.9), quality(0.1), timing()) == []


@pytest.mark.parametrize(("found", "broken"), [(0.89, False), (0.8899, True), (0.95, False)])
def test_drop_is_judged_in_the_metrics_own_unit(found, broken):
    assert bool(limits(Budget(quality_drop=0.01), quality(0.90), quality(found))) == broken


@pytest.mark.parametrize(("found", "broken"), [(0.05, False), (0.0611, True), (0.01, False)])
def test_lower_is_better_metrics_drop_upwards(found, broken):
    budget = Budget(quality_drop=0.01)
    assert bool(limits(budget, quality(0.05, higher=False), quality(found, higher=False))) == broken


def test_floor_in_both_directions():
    assert limits(Budget(quality_floor=0.9), quality(0.95), quality(0.89)) == ["m floor"]
    assert limits(Budget(quality_floor=0.1), quality(0.05, higher=False), quality(0.11, higher=False)) == ["m floor"]
    assert limits(Budget(quality_floor=0.1), quality(0.05, higher=False), quality(0.09, higher=False)) == []


def test_worst_class_is_named():
    budget = Budget(worst_class_drop=0.05)
    assert limits(budget, quality(0.9, cat=0.9, dog=0.9), quality(0.9, cat=0.99, dog=0.8)) == ["drop of class dog"]


def test_changed_decisions():
    assert limits(Budget(changed_share=0.1), quality(0.9), quality(0.9, changed=0.11)) != []
    assert limits(Budget(changed_share=0.1), quality(0.9), quality(0.9, changed=0.10)) == []


@pytest.mark.parametrize(
    ("budget", "time"),
    [
        (Budget(latency_ms=9.0), timing(p95=10.0)),
        (Budget(speedup=1.5), timing(speedup=1.4)),
        (Budget(size_bytes=99), timing(size=100)),
        (Budget(throughput=101.0), timing()),
        (Budget(peak_memory_bytes=999), timing()),
        (Budget(energy_mj=5.0), timing(energy=None)),
        (Budget(energy_mj=5.0), timing(energy=5.1)),
    ],
)
def test_each_cost_limit_can_break(budget, time):
    assert len(limits(budget, quality(0.9), quality(0.9), time)) == 1
    assert budget.limits_cost


def test_percentile_chooses_the_column():
    summary = Summary(1.0, 2.0, 3.0, 4.0, 9.0, 5)
    assert [percentile(summary, p) for p in (50, 90, 95, 99)] == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match="42"):
        percentile(summary, 42)
    assert limits(Budget(latency_ms=5.0, latency_percentile=50), quality(0.9), quality(0.9), timing(p95=10.0)) == []
