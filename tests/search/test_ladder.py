from __future__ import annotations

from dataclasses import replace

from edgewright.core.budget import Violation
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, StepSpec
from edgewright.core.target import Scheme
from edgewright.search.ladder import Facts, ladder

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")
TARGET = StepSpec("onnxruntime")


def scheme(name: str) -> Scheme:
    return Scheme(name, "uint8", False, "int8", True, True, 8, ("Conv", "MatMul"), (), "int32")


FAST, SLOW = scheme("rt-fast"), scheme("rt-slow")
FACTS = Facts(False, {}, {"Conv": 0.9, "MatMul": 0.05})


def came_of(rung, speedup: float) -> Candidate:
    quality = Quality((QualityFigure("m", 1, 1, 1, 10, "tune"),))
    summary = Summary(1, 1, 1, 1, 1, 1)
    timing = Timing(
        summary, summary, Ratio(speedup, speedup, speedup), 1, 1, 1, 1, None, "", Conditions(1, 1, None, None, 0, 1, 1)
    )
    measured = Measurement(Digest("sha256:0"), DEVICE, quality, None, timing)
    return Candidate(rung.recipe.title, rung.target.name, rung.recipe, 1, 1, measurement=measured)


def climb(facts: Facts, schemes, precisions, speed=lambda rung: 1.0, violations=()):
    steps = ladder(TARGET, facts, schemes, precisions)
    rungs = [next(steps)]
    try:
        while True:
            rungs.append(steps.send(replace(came_of(rungs[-1], speed(rungs[-1])), violations=violations)))
    except StopIteration:
        return rungs


def tried(rungs):
    return [r.recipe.title for r in rungs if not r.refused]


def test_cheapest_first_and_percentile_only_for_the_fastest_scheme():
    rungs = climb(FACTS, (SLOW, FAST), {}, lambda r: 2.0 if "fast" in r.recipe.title else 1.0)
    assert tried(rungs) == ["float", "int8 slow minmax", "int8 fast minmax", "int8 fast percentile"]


def test_a_model_the_target_refuses_is_not_tried_at_all():
    rungs = climb(replace(FACTS, refusals={"onnxruntime": ("no kernel for Foo (node 3)",)}), (FAST,), {})
    assert [r.refused for r in rungs] == ["no kernel for Foo (node 3)"]


def test_precisions_without_hardware_are_refused_with_the_reason():
    rungs = climb(FACTS, (), {"float32": "", "bfloat16": "no AVX512-BF16", "float16": ""})
    assert {r.name: r.refused for r in rungs if r.name in ("bf16", "fp16")} == {"bf16": "no AVX512-BF16", "fp16": ""}


def test_dynamic_int8_needs_matrix_products_in_the_profile():
    assert "dynamic int8" not in tried(climb(FACTS, (), {}))
    assert "dynamic int8" in tried(climb(replace(FACTS, time_share={"MatMul": 0.6}), (), {}))


def test_static_int8_is_refused_where_it_cannot_pay():
    rungs = climb(replace(FACTS, time_share={"Conv": 0.05, "Sigmoid": 0.9}), (FAST,), {})
    assert any(r.name == "static-int8" and "5%" in r.refused for r in rungs)


def test_a_model_with_quantisers_is_read_as_it_is():
    rungs = climb(replace(FACTS, quantized=True), (FAST,), {})
    assert tried(rungs) == ["as it is (already QDQ)", "float"]
    assert rungs[0].recipe.passes == ()


def test_edges_stay_float_only_when_no_int8_met_the_budget():
    titles = tried(climb(FACTS, (FAST,), {}, violations=(Violation("drop of m", 0.01, 0.2),)))
    assert titles[-1] == "int8 fast percentile, first and last in float"
    assert not any("first and last" in title for title in tried(climb(FACTS, (FAST,), {})))
