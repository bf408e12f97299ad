"""One true sentence per candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgewright.core.budget import Budget, Violation
from edgewright.core.data import QualityFigure
from edgewright.core.digest import digest_json
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import BROKE, DOMINATED, FAILED, MET, REFUSED, Candidate, Recipe, StepSpec, Study
from edgewright.core.target import NodePlacement
from edgewright.search.explain import annotate, violation_text

DEVICE = Device("local", "x86_64", "some processor", 2, (), 1, "Linux")


def candidate(
    name: str, speed: float, value: float, *, changed: float = 0.0, size: int = 100, **more: Any
) -> Candidate:
    summary = Summary(10 / speed, 10 / speed, 10 / speed, 10 / speed, 10 / speed, 9)
    reference = Summary(10.0, 10.0, 10.0, 10.0, 10.0, 9)
    ratio = Ratio(speed, speed * 0.97, speed * 1.03)
    conditions = Conditions(1, 1, None, None, 0.0, 9, 9)
    timing = Timing(summary, reference, ratio, 100 * speed, 1.0, size, 9, None, "no RAPL", conditions)
    metric = more.pop("metric", "mAP50")
    higher = more.pop("higher", True)
    quality = Quality((QualityFigure(metric, value, value, value, 400, "tune", higher),), (), {}, changed)
    measured = Measurement(digest_json(name), DEVICE, quality, None, timing if more.pop("timed", True) else None)
    return Candidate(f"t/{name}", "t", Recipe(name, ()), 1, 1, measurement=measured, **more)


def study(*tried: Candidate, base: float = 0.612, budget: Budget | None = None, **more: Any) -> Study:
    reference = replace(candidate("original", 1.0, base, **more), id="reference")
    budget = budget or Budget(quality_drop=0.01)
    objective = "latency"
    return annotate(Study(1, "p", DEVICE, (), (), budget, objective, reference, tried))


def test_every_kind_of_loser_has_its_sentence() -> None:
    found = study(
        candidate("FP32", 1.04, 0.612, precision="float32"),
        candidate("INT8 minmax", 0.45, 0.329, precision="int8"),
        candidate("FP16", 0.7, 0.611, precision="float16"),
        candidate("BF16", 1.52, 0.611, changed=0.01),
        candidate("INT8 mse", 1.54, 0.605, changed=0.03),
        Candidate("t/bad", "t", Recipe("bad", ()), 1, 1, verdict=FAILED, error="no kernel\nTraceback"),
        Candidate("t/no", "t", Recipe("no", ()), 1, 1, verdict=REFUSED, error="operator Loop is not taken"),
    )
    why = {c.recipe.title: (c.verdict, c.why) for c in found.candidates}
    assert why["FP32"] == (MET, "meets the budget, but is slower than BF16 (1.04x against 1.52x)")
    assert why["INT8 minmax"] == (
        BROKE,
        "loses 28.3 points of mAP50 (limit 1.0), and is slower than FP32 (0.45x against 1.04x): "
        "INT8 brings nothing on this processor",
    )
    assert why["FP16"] == (
        DOMINATED,
        "is slower than FP32 (0.70x against 1.04x): FP16 brings nothing on this processor",
    )
    assert why["BF16"][0] == MET
    assert why["BF16"][1].startswith("as fast as any within noise, and the least aggressive, of the 4 that meet")
    assert why["INT8 mse"] == (
        MET,
        "faster, but within noise of BF16 (1.54x against 1.52x), which changes fewer decisions (1.0% against 3.0%)",
    )
    assert why["bad"] == (FAILED, "failed: no kernel")
    assert why["no"] == (REFUSED, "not tried: operator Loop is not taken")
    assert found.winners == {"t": "t/BF16"}
    assert found.met == {"t": True}


def test_fewer_changed_decisions_are_claimed_only_when_true() -> None:
    found = study(candidate("A", 1.5, 0.612, changed=0.05), candidate("B", 1.51, 0.611, changed=0.01))
    assert found.candidates[1].why == "faster, but within noise of A (1.51x against 1.50x), which is less aggressive"


def test_dominated_but_faster_than_the_original_names_its_better() -> None:
    found = study(candidate("BF16", 1.5, 0.612), candidate("INT8", 1.2, 0.610, precision="int8"))
    assert found.candidates[1].verdict == DOMINATED
    assert found.candidates[1].why == "is no faster than BF16 (1.20x against 1.50x) and no better in quality"


def test_low_precision_is_not_blamed_for_a_slow_runtime_or_for_noise() -> None:
    # Everything is slower than the original here; INT8 is as fast as this runtime's own float.
    found = study(
        candidate("float", 0.432, 0.612, precision="float32", changed=0.0),
        candidate("INT8", 0.434, 0.610, precision="int8", changed=0.02),
        candidate("INT8 again", 0.431, 0.610, precision="int8"),
    )
    assert found.candidates[1].why == (
        "faster, but within noise of float (0.434x against 0.432x), which changes fewer decisions (0.0% against 2.0%)"
    )
    assert found.candidates[2].why == "is no faster than INT8 (0.431x against 0.434x) and no better in quality"


def test_when_nothing_meets_the_budget_the_nearest_says_what_it_breaks() -> None:
    found = study(candidate("A", 1.5, 0.5), candidate("B", 1.2, 0.59))
    assert found.winners == {"t": "t/B"}
    assert found.met == {"t": False}
    assert found.candidates[1].verdict == BROKE
    assert found.candidates[1].why == "nearest, nothing meets the budget: loses 2.2 points of mAP50 (limit 1.0)"


def test_target_where_nothing_ran_has_no_winner() -> None:
    found = study(Candidate("t/no", "t", Recipe("no", ()), 1, 1, verdict=REFUSED))
    assert (found.winners, found.met, found.fronts) == ({}, {"t": False}, {"t": ()})
    assert found.candidates[0].why == "not tried: the target does not take it"


def test_a_metric_that_is_not_a_share_keeps_its_unit() -> None:
    tried = candidate("INT8", 1.5, 14.2, metric="mean-absolute-error", higher=False)
    found = study(tried, base=12.0, budget=Budget(quality_drop=0.5), metric="mean-absolute-error", higher=False)
    assert found.candidates[0].why == (
        "nearest, nothing meets the budget: loses 2.2 of mean-absolute-error (limit 0.5)"
    )


def test_untimed_candidate_does_not_claim_to_meet_a_cost_limit() -> None:
    budget = Budget(quality_drop=0.01, size_bytes=1000)
    found = study(candidate("A", 1.5, 0.612), candidate("B", 1.0, 0.612, timed=False), budget=budget)
    assert found.candidates[1].verdict == BROKE
    assert "not measured" in found.candidates[1].why


def test_annotating_twice_changes_nothing_and_a_new_budget_judges_anew() -> None:
    skipped = Candidate("t/C", "t", Recipe("C", ()), 1, 1, verdict=REFUSED, why="no kernels")
    found = study(candidate("A", 1.04, 0.612), candidate("B", 2.0, 0.58), skipped)
    assert found.candidates[2].why == "not tried: no kernels"
    assert annotate(found) == found
    assert found.winners == {"t": "t/A"}
    loose = annotate(replace(found, budget=Budget(quality_drop=0.1)))
    assert loose.winners == {"t": "t/B"}
    assert loose.candidates[1].verdict == MET
    assert annotate(replace(loose, budget=found.budget)).winners == {"t": "t/A"}


def test_size_objective_speaks_of_size() -> None:
    tried = (candidate("A", 1.5, 0.612, size=2_000_000), candidate("B", 1.1, 0.611, size=500_000))
    found = annotate(replace(study(*tried), objective="size"))
    assert found.winners == {"t": "t/B"}
    assert found.candidates[0].why == "meets the budget, but B costs less (2 MB against 500 kB)"
    assert "500 kB" in found.candidates[1].why


@pytest.mark.parametrize(
    ("violation", "text"),
    [
        (Violation("p95 latency in ms", 10.0, 12.34), "takes 12.3 ms at p95 (limit 10 ms)"),
        (Violation("size in bytes", 4e6, 4.2e6), "ships 4.2 MB (limit 4 MB)"),
        (Violation("peak memory in bytes", 1e8, 1.5e8), "takes 150 MB of memory (limit 100 MB)"),
        (Violation("share of changed decisions", 0.01, 0.042), "changes 4.2% of the decisions (limit 1.0%)"),
        (Violation("drop of class cat", 0.05, 0.283), "loses 28.3 points on class cat (limit 5.0)"),
        (Violation("top-1 floor", 0.9, 0.871), "reaches top-1 87.1% only (floor 90.0%)"),
        (Violation("speed-up", 1.6, 1.2), "is 1.20x the speed of the original (at least 1.60x wanted)"),
        (Violation("throughput in samples/s", 30.0, 12.0), "does 12 samples/s (at least 30 samples/s wanted)"),
        (Violation("energy in mJ", 5.0, None), "energy in mJ could not be measured here"),
        (Violation("drop of top-1", 0.0025, 0.0031), "loses 0.31 points of top-1 (limit 0.25)"),
        (Violation("drop of top-1", 0.01, 0.0102), "loses 1.02 points of top-1 (limit 1.0)"),
    ],
)
def test_violations_read_as_clauses_with_units(violation: Violation, text: str) -> None:
    assert violation_text(violation, share=True) == text


def test_a_known_risk_of_the_scheme_is_named_only_when_quality_was_lost() -> None:
    risky = Recipe("INT8", (StepSpec("static-int8", {"scheme": {"name": "x", "caution": "sums saturate here"}}),))
    lost = replace(candidate("INT8", 1.5, 0.2, precision="int8"), recipe=risky)
    fine = replace(candidate("INT8", 1.5, 0.61, precision="int8"), id="t/fine", recipe=risky)
    found = study(candidate("float", 1.0, 0.612, precision="float32"), lost, fine)
    assert found.candidates[1].why == "loses 41.2 points of mAP50 (limit 1.0); sums saturate here"
    assert "saturate" not in found.candidates[2].why


def test_time_spent_on_conversions_is_named() -> None:
    nodes = (NodePlacement("q", "QuantizeLinear", "CPU", "conversion", share=0.3),)
    slow = replace(candidate("INT8", 0.5, 0.612, precision="int8"), placement=nodes)
    found = study(candidate("float", 1.0, 0.612, precision="float32"), slow)
    assert found.candidates[1].why.endswith("; conversions between precisions take 30% of its time")


def test_low_precision_is_compared_with_float_at_its_own_threads_and_batch() -> None:
    int8 = candidate("INT8", 1.3, 0.612, precision="int8")
    batched = replace(candidate("float", 1.0, 0.612, precision="float32"), id="t/b4", batch=4)
    found = study(candidate("float", 1.0, 0.612, precision="float32"), int8, batched)
    assert "brings nothing" not in found.candidates[1].why


def test_low_precision_is_compared_with_float_of_the_same_network() -> None:
    pruned = Recipe("half", (StepSpec("prune", {"latency": 0.5}),))
    smaller = replace(candidate("half", 2.0, 0.612, precision="float32"), recipe=pruned)
    int8 = candidate("INT8", 1.3, 0.612, precision="int8")
    found = study(candidate("float", 1.0, 0.612, precision="float32"), int8, smaller)
    assert "brings nothing" not in found.candidates[1].why
    slower = replace(candidate("half INT8", 1.5, 0.612, precision="int8"), recipe=pruned)
    found = study(candidate("float", 1.0, 0.612, precision="float32"), smaller, slower)
    assert found.candidates[2].why.endswith("INT8 brings nothing on this processor")
