"""The winners of all targets beside the best of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.budget import Budget
from edgewright.core.data import PairedDifference, QualityFigure
from edgewright.core.digest import digest_json
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, Recipe, Study
from edgewright.search.explain import annotate
from edgewright.search.standings import FROM_FIGURES, FROM_RATIOS, SIDE_BY_SIDE, quotient, standings

DEVICE = Device("local", "x86_64", "a processor", 2, ("avx2",), 1 << 30, "Linux")


def candidate(target: str, speed: float, *, drop: float = 0.0, size: int = 100, threads: int = 1) -> Candidate:
    figure = QualityFigure("top-1", 0.9 - drop, 0.88, 0.92, 400, "tune")
    paired = PairedDifference("top-1", -drop, -drop, -drop, 400, "tune")
    summary = Summary(1 / speed, 1 / speed, 1 / speed, 1 / speed, 1 / speed, 100)
    timing = Timing(
        latency_ms=summary,
        reference_ms=Summary(1.0, 1.0, 1.0, 1.0, 1.0, 100),
        speedup=Ratio(speed, speed * 0.98, speed * 1.02),
        throughput=speed,
        load_ms=1.0,
        size_bytes=size,
        peak_memory_bytes=1000,
        energy_mj=None,
        energy_note="",
        conditions=Conditions(threads, 1, None, None, 0.0, 10, 20),
    )
    quality = Quality((figure,), (paired,), {}, 0.0)
    measured = Measurement(digest_json(target), DEVICE, quality, None, timing)
    return Candidate(f"{target}/float", target, Recipe("float", ()), threads, 1, measurement=measured)


def study(*candidates: Candidate, objective: str = "latency") -> Study:
    reference = replace(candidate("onnxruntime", 1.0), id="onnxruntime/original")
    budget = Budget(quality_drop=0.01)
    return annotate(Study(1, "p", DEVICE, (), (), budget, objective, reference, candidates))


def duels(found: Mapping[tuple[str, str], float]) -> Callable[[Candidate, Candidate], Ratio]:
    def duel(one: Candidate, other: Candidate) -> Ratio:
        value = found[one.target, other.target]
        return Ratio(value, value * 0.99, value * 1.01)

    return duel


def never(one: Candidate, other: Candidate) -> Ratio:
    raise AssertionError("nothing is timed")


def test_the_fastest_is_timed_against_the_best_of_every_other() -> None:
    made = study(candidate("onnxruntime", 1.5), candidate("openvino", 2.0), candidate("litert", 1.8))
    found = standings(made, duels({("openvino", "litert"): 1.2, ("openvino", "onnxruntime"): 1.3}))
    assert [(s.target, s.advantage.value, s.basis) for s in found] == [
        ("openvino", 1.0, SIDE_BY_SIDE),
        ("litert", 1.2, SIDE_BY_SIDE),
        ("onnxruntime", 1.3, SIDE_BY_SIDE),
    ]


def test_timing_in_turn_overrules_the_two_speed_ups() -> None:
    made = study(candidate("onnxruntime", 1.5), candidate("openvino", 2.0), candidate("litert", 1.9))
    found = standings(made, duels({("openvino", "litert"): 0.8, ("openvino", "onnxruntime"): 1.2}))
    assert [s.target for s in found] == ["litert", "openvino", "onnxruntime"]
    assert [s.advantage.value for s in found] == pytest.approx([1.0, 1.25, 1.5])


def test_a_faster_one_that_breaks_the_budget_is_not_the_best() -> None:
    made = study(candidate("onnxruntime", 1.5), candidate("litert", 3.0, drop=0.3))
    found = standings(made, duels({("onnxruntime", "litert"): 0.5}))
    assert [(s.target, s.met, s.advantage.value) for s in found] == [("onnxruntime", True, 1.0), ("litert", False, 0.5)]


def test_sizes_are_compared_without_timing() -> None:
    made = study(candidate("onnxruntime", 3.0, size=300), candidate("litert", 1.0, size=200), objective="size")
    found = standings(made, never)
    assert [(s.target, s.advantage.value, s.basis) for s in found] == [
        ("litert", 1.0, FROM_FIGURES),
        ("onnxruntime", 1.5, FROM_FIGURES),
    ]


def test_other_threads_are_compared_through_the_original() -> None:
    made = study(candidate("onnxruntime", 1.0), candidate("litert", 2.0, threads=2))
    best, other = standings(made, never)
    assert (best.target, other.basis) == ("litert", FROM_RATIOS)
    assert other.advantage.low < other.advantage.value < other.advantage.high


def test_one_target_has_nothing_to_stand_beside() -> None:
    assert standings(study(candidate("onnxruntime", 1.0)), never) == ()


def test_a_prediction_does_not_compete_with_measurements() -> None:
    predicted = candidate("micro", 9.0)
    assert predicted.measurement is not None
    assert predicted.measurement.timing is not None
    timing = replace(predicted.measurement.timing, basis="predicted")
    predicted = replace(predicted, measurement=replace(predicted.measurement, timing=timing))
    assert standings(study(candidate("onnxruntime", 1.0), predicted), never) == ()


@given(st.floats(0.2, 5), st.floats(0.2, 5), st.floats(0, 0.3), st.floats(0, 0.3))
def test_a_quotient_is_no_more_certain_than_its_parts(a: float, b: float, wide: float, narrow: float) -> None:
    one, other = Ratio(a, a * (1 - wide), a * (1 + wide)), Ratio(b, b * (1 - narrow), b * (1 + narrow))
    found = quotient(one, other)
    assert found.low <= found.value <= found.high
    assert found.high / found.low >= max(one.high / one.low, other.high / other.low) * (1 - 1e-9)
