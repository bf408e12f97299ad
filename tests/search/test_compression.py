"""Rungs that train: when they are tried, what they consist of, and how pruning follows what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from edgewright.core.budget import Budget
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import REFUSED, Candidate, StepSpec
from edgewright.core.step import StepRecord
from edgewright.core.target import Scheme
from edgewright.search.compression import LEAST_SAMPLES, pipeline, why_not
from edgewright.search.ladder import RUNGS, ladder
from edgewright.search.repair import Chain
from edgewright.search.request import TrainingConfig
from edgewright.search.rungs import Facts, Rung, Trainable

DEVICE = Device("local", "x86_64", "test", 2, ("avx2",), 1 << 30, "Linux")
TARGET = StepSpec("onnxruntime")
SCHEME = Scheme("rt-u8s8", "uint8", False, "int8", True, True, 8, ("Conv", "MatMul"), (), "int32")
LABELLED = Trainable(TrainingConfig(), {"train": 5000, "calibration": 100}, labelled=True)
World = Callable[[Rung], tuple[float, float]]
"""Rung -> its quality and how many times as fast as the original it is."""


def judged(rung: Rung, budget: Budget, quality: float, speedup: float, seconds: float = 0.0) -> Candidate:
    if rung.refused:
        return Candidate(rung.recipe.title, TARGET.name, rung.recipe, 1, 1, verdict=REFUSED, why=rung.refused)
    found = Quality((QualityFigure("top-1", quality, quality, quality, 10, "tune"),))
    summary = Summary(*[10 / speedup] * 6)
    conditions = Conditions(1, 1, None, None, 0, 1, 1)
    ratio = Ratio(speedup, speedup, speedup)
    timing = Timing(summary, summary, ratio, 1, 1, 1000, 1, None, "", conditions)
    measured = Measurement(Digest("sha256:0"), DEVICE, found, None, timing)
    baseline = Quality((QualityFigure("top-1", 0.9, 0.9, 0.9, 10, "tune"),))
    key = Digest(str(rung.recipe))
    lineage = (StepRecord("distill", 1, {}, key, {}, key, seconds=seconds),)
    precision = "int8" if "int8" in rung.recipe.title else "float32"
    broken = budget.check(baseline, measured)
    made = Candidate(str(rung.recipe), TARGET.name, rung.recipe, 1, 1, precision=precision, measurement=measured)
    return replace(made, violations=broken, lineage=lineage if rung.name in ("prune", "qat") else ())


def climb(training: Trainable | None, world: World, budget: Budget, seconds: float = 0.0, **facts: Any) -> list[Rung]:
    """Returns the rungs that train."""
    known = Facts(facts.pop("quantized", False), {}, {"Conv": 0.9}, {"Conv": 3}, training=training)
    limited = replace(training, limits_cost=budget.limits_cost) if training else None
    steps = ladder(TARGET, replace(known, training=limited), (SCHEME,), {}, None)
    rungs, rung = [], next(steps)
    wanted = training.wanted if training else frozenset()
    try:
        while True:
            skipped = bool(wanted) and rung.name not in wanted and rung.name != "float"
            empty = Candidate("", TARGET.name, rung.recipe, 1, 1)
            candidate = empty if skipped else judged(rung, budget, *world(rung), seconds)
            rungs += [] if skipped else [rung]
            rung = steps.send(candidate)
    except StopIteration:
        return [rung for rung in rungs if rung.name in ("qat", "prune", "prune+qat", "distill", "sparsify")]


def names_of(rung: Rung) -> list[str]:
    return [spec.name for spec in rung.recipe.passes]


def lossy_int8(rung: Rung) -> tuple[float, float]:
    """INT8 is twice as fast and loses five points unless it was trained."""
    if "int8" not in rung.recipe.title:
        return 0.9, 1.0
    return (0.895 if "QAT" in rung.recipe.title else 0.85), 2.0


DROP = Budget(quality_drop=0.01)


def test_a_project_that_says_nothing_of_training_is_not_trained() -> None:
    assert climb(None, lossy_int8, DROP) == []


def test_int8_that_lost_too_much_is_trained_from_the_fast_scheme() -> None:
    (rung,) = climb(LABELLED, lossy_int8, DROP)
    assert (rung.name, names_of(rung)) == ("qat", ["clean-up", "static-int8", "qat"])
    assert rung.recipe.passes[1].config["scheme"]["name"] == "rt-u8s8"
    assert rung.recipe.passes[2].config == {"epochs": 1, "labels": 0.5}
    assert rung.notes == ("trained on 5000 samples of train, from labels and the original model",)


def test_int8_that_is_good_enough_is_not_trained() -> None:
    assert climb(LABELLED, lambda rung: (0.9, 2.0 if "int8" in rung.recipe.title else 1.0), DROP) == []


def test_int8_that_is_no_faster_is_not_trained_for() -> None:
    assert climb(LABELLED, lambda rung: (0.85 if "int8" in rung.recipe.title else 0.9, 1.0), DROP) == []


def shares(rungs: list[Rung]) -> list[list[float]]:
    """Returns what each rung prunes to, round after round."""
    return [[s.config["latency"] for s in rung.recipe.passes if s.name == "prune"] for rung in rungs]


def pruned_world(rung: Rung, shortfall: float = 1.0) -> tuple[float, float]:
    """INT8 doubles the speed; pruning reaches its prediction to the power of `shortfall`."""
    speed = 2.0 if "int8" in rung.recipe.title else 1.0
    for (share,) in [[s.config["latency"]] for s in rung.recipe.passes if s.name == "prune"]:
        speed /= share**shortfall
    return 0.9, speed


def test_what_is_too_slow_is_pruned_until_int8_of_it_is_fast_enough() -> None:
    rungs = climb(LABELLED, pruned_world, Budget(quality_drop=0.01, speedup=3.0))
    assert [rung.name for rung in rungs] == ["prune", "prune+qat"]
    assert shares(rungs) == [[0.647], [0.647]]
    assert names_of(rungs[0]) == ["prune", "distill", "clean-up"]
    assert rungs[0].recipe.passes[0].config["scheme"] == "rt-u8s8"
    assert names_of(rungs[1]) == ["prune", "distill", "clean-up", "static-int8"]


def test_the_next_round_goes_on_from_the_last_towards_what_is_left() -> None:
    rungs = climb(LABELLED, lambda rung: pruned_world(rung, 0.5), Budget(quality_drop=0.01, speedup=3.0))
    assert shares(rungs)[:3] == [[0.647], [0.647], [0.647, 0.804]]  # 2 / sqrt(0.647) = 2.49 of 3, and 3% more
    assert rungs[2].recipe.passes[:2] == rungs[0].recipe.passes[:2]
    assert len(shares(rungs)[-1]) == TrainingConfig().rounds
    assert len({rung.recipe.title for rung in rungs}) == len(rungs)


def test_no_round_takes_more_than_half() -> None:
    rungs = climb(LABELLED, pruned_world, Budget(quality_drop=0.01, speedup=10.0))
    assert shares(rungs)[-1] == [0.5, 0.5, pytest.approx(0.776)]


def test_pruning_that_lost_too_much_on_the_way_is_given_up() -> None:
    def lossy(rung: Rung) -> tuple[float, float]:
        _, speed = pruned_world(rung)
        return (0.8 if names_of(rung).count("prune") > 1 else 0.9), speed

    rungs = climb(LABELLED, lossy, Budget(quality_drop=0.01, speedup=10.0))
    assert shares(rungs) == [[0.5], [0.5], [0.5, 0.5]]


def test_a_step_that_cost_accuracy_but_no_limit_is_tried_more_gently() -> None:
    asked = replace(LABELLED, asked=True)
    rungs = climb(asked, lambda r: (0.8 if "prune" in names_of(r) else 0.9, pruned_world(r)[1]), DROP)
    assert shares(rungs) == [[0.7], [0.837]]


def test_pruned_int8_that_lost_too_much_is_trained_too() -> None:
    def lossy(rung: Rung) -> tuple[float, float]:
        return lossy_int8(rung)[0], pruned_world(rung)[1]

    rungs = climb(LABELLED, lossy, Budget(quality_drop=0.01, speedup=3.0))
    assert [rung.name for rung in rungs] == ["qat", "prune", "prune+qat", "prune+qat"]
    assert names_of(rungs[-1]) == ["prune", "distill", "clean-up", "static-int8", "qat"]


def test_a_file_that_is_too_large_is_pruned_by_size() -> None:
    rungs = climb(LABELLED, lambda rung: (0.9, 1.0), Budget(quality_drop=0.01, size_bytes=800))
    assert rungs[0].recipe.passes[0].config == {"size": 0.776}


def test_without_labels_the_original_teaches_alone() -> None:
    few = replace(LABELLED, labelled=False, samples={"calibration": LEAST_SAMPLES})
    (rung,) = climb(few, lossy_int8, DROP)
    assert "labels" not in rung.recipe.passes[-1].config
    assert rung.notes == (f"trained on {LEAST_SAMPLES} samples of calibration, from the original model",)


def test_why_nothing_is_trained_is_said() -> None:
    few = replace(LABELLED, labelled=False, samples={"calibration": LEAST_SAMPLES - 1})
    (rung,) = climb(few, lossy_int8, DROP)
    assert "[data.calibration] has 199 samples only" in rung.refused
    absent = replace(LABELLED, absent='needs torch: pip install "edgewright[torch]"')
    assert why_not(absent) == 'needs torch: pip install "edgewright[torch]"'
    (rung,) = climb(replace(LABELLED, asked=True), lossy_int8, DROP, quantized=True)
    assert "already carries" in rung.refused


def test_a_student_and_a_sparse_pattern_are_tried_where_the_project_names_them() -> None:
    config = TrainingConfig(student="mobilenetv3-0.5", sparsity=0.75, epochs=8, qat_epochs=3)
    asked = replace(LABELLED, config=config, asked=True, wanted=frozenset({"distill", "sparsify"}))
    rungs = climb(asked, lossy_int8, DROP)
    assert [rung.name for rung in rungs] == ["distill", "distill", "distill", "sparsify", "sparsify", "sparsify"]
    assert names_of(rungs[2]) == ["student", "distill", "clean-up", "static-int8", "qat"]
    assert rungs[0].recipe.passes[0].config == {"network": "mobilenetv3-0.5"}
    assert rungs[2].recipe.passes[-1].config["epochs"] == 3
    assert rungs[3].recipe.passes[0].config == {"pattern": "unstructured", "sparsity": 0.75}


def test_rungs_named_alone_are_tried_without_the_ladder_before_them() -> None:
    for name in ("qat", "prune", "prune+qat", "sparsify"):
        asked = replace(LABELLED, asked=True, wanted=frozenset({name}))
        rungs = climb(asked, lossy_int8, Budget(quality_drop=0.01, speedup=3.0))
        assert {rung.name for rung in rungs} == {name}
        assert name in RUNGS


def test_no_pass_is_begun_once_the_time_is_spent() -> None:
    limited = replace(LABELLED, config=TrainingConfig(time_limit=250.0))
    rungs = climb(limited, lambda rung: pruned_world(rung, 0.5), Budget(quality_drop=0.01, speedup=9.0), seconds=150.0)
    assert [bool(rung.refused) for rung in rungs] == [False, False, False, False, True]
    assert rungs[-1].refused == "300 s of training were spent, time_limit is 250 s"


def test_the_whole_table_as_one_recipe() -> None:
    training = replace(LABELLED, config=TrainingConfig(latency=0.4, learning_rate=0.003))
    recipe = pipeline(training, Chain(SCHEME))
    assert [spec.name for spec in recipe.passes] == ["prune", "distill", "clean-up", "static-int8", "qat"]
    assert recipe.passes[1].config == {"epochs": 4, "learning_rate": 0.003, "labels": 0.5}
    assert [spec.name for spec in pipeline(LABELLED, None).passes] == ["clean-up"]
