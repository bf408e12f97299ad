from __future__ import annotations

from dataclasses import replace

import pytest

from edgewright.core.budget import Violation
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, StepSpec
from edgewright.core.sensitivity import Sensitivity
from edgewright.core.target import Scheme
from edgewright.search.ladder import ladder
from edgewright.search.repair import Best, Chain, repair, techniques
from edgewright.search.rungs import Facts, Rung

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
    steps = ladder(TARGET, facts, schemes, precisions, lambda recipe: Sensitivity("", 0, ()))
    rungs = [next(steps)]
    try:
        while True:
            rungs.append(steps.send(replace(came_of(rungs[-1], speed(rungs[-1])), violations=violations)))
    except StopIteration:
        return rungs


def tried(rungs):
    return [r.recipe.title for r in rungs if not r.refused]


def test_cheapest_first_and_better_ranges_only_for_the_fastest_scheme():
    rungs = climb(FACTS, (SLOW, FAST), {}, lambda r: 2.0 if "fast" in r.recipe.title else 1.0)
    ranges = ["int8 fast auto", "int8 fast percentile"]
    assert tried(rungs) == ["float", "int8 slow minmax", "int8 fast minmax", *ranges]


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


BROKEN = (Violation("drop of m", 0.01, 0.2),)


def test_accuracy_is_recovered_only_where_no_fast_int8_met_the_budget():
    int8_is_faster = {"speed": lambda rung: 1.5 if "int8" in rung.recipe.title else 1.0}
    titles = tried(climb(FACTS, (FAST,), {}, **int8_is_faster, violations=BROKEN))
    repairs = ("mse weights", "fast bias correction", "full bias correction", "adaround")
    assert titles[4:] == [f"int8 fast minmax, {what}" for what in repairs]
    assert not any("bias" in title for title in tried(climb(FACTS, (FAST,), {}, **int8_is_faster)))


def test_a_target_that_does_not_run_here_gets_better_ranges_and_repairs_without_a_speed():
    steps = ladder(TARGET, FACTS, (FAST,), {}, None)
    names, rung = [], next(steps)
    try:
        while True:
            names.append(rung.recipe.title)
            made = came_of(rung, 1.0)
            quality = replace(made.measurement, timing=None, size_bytes=1)
            rung = steps.send(replace(made, measurement=quality, violations=BROKEN))
    except StopIteration:
        pass
    assert "int8 fast percentile" in names
    assert "int8 fast minmax, full bias correction" in names


def test_accuracy_is_not_recovered_where_int8_is_no_faster_unless_size_counts():
    rungs = climb(FACTS, (FAST,), {}, violations=BROKEN)
    assert rungs[-1].name == "mixed"  # where some operators are faster in float, others in integers, it may still pay
    assert rungs[-2].refused == "INT8 runs at 1.00x the speed of float here: nothing to gain by recovering its accuracy"
    assert "adaround" in tried(climb(replace(FACTS, size_limited=True), (FAST,), {}, violations=BROKEN))[-1]


def test_only_techniques_that_fit_the_model_are_tried():
    names = [name for name, _ in techniques(replace(FACTS, operators={"Conv": 3, "Relu": 2}))]
    assert names == ["weights", "equalise", "bias-correction", "bias-correction"]
    names = [name for name, _ in techniques(replace(FACTS, operators={"LayerNormalization": 2, "MatMul": 9}))]
    assert names == ["weights", "smooth", "bias-correction", "bias-correction"]


def with_quality(rung, value: float, violations=BROKEN) -> Candidate:
    made = came_of(rung, 1.5)
    figure = QualityFigure("m", value, value, value, 10, "tune")
    assert made.measurement is not None
    return replace(made, measurement=replace(made.measurement, tune=Quality((figure,))), violations=violations)


def test_a_technique_that_hurts_is_dropped_and_one_that_helps_is_built_upon():
    facts = replace(FACTS, operators={"Conv": 3, "Relu": 2})
    start = Best(Chain(FAST), with_quality(Rung("static-int8", Chain(FAST).recipe(), TARGET), 0.5))
    steps = repair(TARGET, facts, start)
    rung = next(steps)
    assert rung.recipe.passes[-1].config["weights"] == "mse"
    rung = steps.send(with_quality(rung, 0.45))
    assert [spec.name for spec in rung.recipe.passes] == ["clean-up", "equalise", "static-int8"]
    assert "weights" not in rung.recipe.passes[-1].config  # it hurt
    rung = steps.send(with_quality(rung, 0.4))  # equalisation hurt
    assert [spec.name for spec in rung.recipe.passes] == ["clean-up", "static-int8", "bias-correction"]
    rung = steps.send(with_quality(rung, 0.6))  # fast correction helped: the full one replaces it
    assert [str(spec) for spec in rung.recipe.passes[2:]] == ["bias-correction(method=full)"]
    with pytest.raises(StopIteration) as stopped:
        steps.send(with_quality(rung, 0.55))
    assert stopped.value.value.candidate.measurement.tune.figures[0].value == 0.6
    assert [str(spec) for spec in stopped.value.value.chain.after] == ["bias-correction(method=fast)"]


def test_repair_ends_as_soon_as_the_budget_is_met():
    start = Best(Chain(FAST), with_quality(Rung("static-int8", Chain(FAST).recipe(), TARGET), 0.5))
    steps = repair(TARGET, FACTS, start)
    with pytest.raises(StopIteration) as stopped:
        steps.send(with_quality(next(steps), 0.7, ()))
    assert stopped.value.value.chain.done[-1] == "mse weights"


def test_weights_alone_come_last_and_only_where_products_or_size_count():
    facts = replace(FACTS, operators={"MatMul": 4}, time_share={"MatMul": 0.7})
    assert [rung.name for rung in climb(facts, (FAST,), {})][-3:] == ["weights-only"] * 3
    few = climb(replace(facts, time_share={"MatMul": 0.05, "Conv": 0.9}), (FAST,), {})
    assert few[-1].refused.startswith("matrix products take little")


def test_adaptive_rounding_without_pytorch_is_refused_with_the_install_line():
    facts = replace(FACTS, absent={"adaround": "needs torch: pip install x"}, size_limited=True)
    last = [rung for rung in climb(facts, (FAST,), {}, violations=BROKEN) if rung.name == "adaround"]
    assert [rung.refused for rung in last] == ["needs torch: pip install x"]
