"""Rules over hand-made evidence: each names its cause from the figures it is for, and keeps silent otherwise."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace

import pytest

from edgewright.core.expression import parse_step
from edgewright.core.parity import POSTPROCESSING, PRECISION, PREPROCESSING, RUNTIME
from edgewright.engine import registry
from edgewright.measure.why.diagnose import diagnose
from edgewright.measure.why.evidence import (
    ACTIVATION,
    BIAS,
    WEIGHTS,
    Calibration,
    Convention,
    Evidence,
    LabelOrder,
    LayerDifference,
    Overflow,
    RuntimeDifference,
    Unit,
)
from edgewright.measure.why.thresholds import THRESHOLDS

PATHS = {"reference": "model.onnx", "candidate": "int8", "project": "edgewright.toml", "deployed": ""}
HEALTHY = Unit(ACTIVATION, "relu1", "relu1", "r1", "Relu", 5.0, 25.0, (0.0, 6.0), (0.0, 5.9), channels=(4.0, 5.0, 5.9))
LOST = {"conversion": 120.0, PRECISION: 3.0, RUNTIME: 50.0}


def evidence(*units: Unit, **others: object) -> Evidence:
    found = Evidence(LOST, PATHS, units, quantised=True, scheme="onnxruntime-u8s8", safe_8_bits=False)
    return replace(found, **others)  # type: ignore[arg-type]


UNITS = {
    "dead range": replace(HEALTHY, range=(0.0, 120.0)),
    "outlier channel": replace(HEALTHY, channels=(0.1, 0.2, 0.15, 5.9)),
    "joined ranges": replace(HEALTHY, join="cat", sharing={"boxes": (0.0, 640.0), "scores": (0.0, 1.0)}),
    "unfolded batch norm": replace(HEALTHY, batch_norm="bn1", channels=(0.01, 5.9)),
    "unsupported operator": replace(HEALTHY, float_node="pow"),
}


@pytest.mark.parametrize("cause", UNITS)
def test_a_rounding_is_named_by_its_figures(cause: str) -> None:
    first = diagnose(evidence(UNITS[cause])).suspects[0]
    assert (first.stage, first.cause) == (PRECISION, cause)
    assert first.node == "relu1"
    assert first.evidence


def test_a_range_cut_off_by_the_other_members_of_a_join_is_one_too() -> None:
    """The scores' range is forced on the boxes: nothing vanishes, the boxes are cut off."""
    joined = replace(
        HEALTHY, join="cat", range=(0.0, 0.996), data=(-2.4, 3.3), clipped=0.03,
        sharing={"boxes": (-2.4, 3.3), "scores": (0.0, 1.0)},
    )  # fmt: skip
    first = diagnose(evidence(joined)).suspects[0]
    assert first.cause == "joined ranges"
    assert "boxes (-2.4 to 3.3)" in first.evidence


def test_weights_and_biases() -> None:
    weights = replace(HEALTHY, kind=WEIGHTS, channels=(0.1, 0.12, 0.11, 9.0))
    assert diagnose(evidence(weights)).suspects[0].cause == "outlier channel"
    assert not diagnose(evidence(replace(weights, per_channel=True))).suspects
    bias = replace(HEALTHY, kind=BIAS, at_limit=2, error=0.9)
    assert diagnose(evidence(bias)).suspects[0].cause == "bias overflow"
    assert not diagnose(evidence(replace(bias, at_limit=0))).suspects


def test_nothing_is_accused_without_a_reason() -> None:
    assert not diagnose(evidence(HEALTHY)).suspects
    sound = diagnose(replace(evidence(HEALTHY), stages={"conversion": 120.0, PRECISION: 30.0, RUNTIME: 60.0}))
    assert sound.stage == ""


def test_a_rounding_that_costs_much_is_named_last() -> None:
    costly = replace(HEALTHY, pair=("c1", "c2"))
    found = diagnose(evidence(costly, UNITS["dead range"])).suspects
    assert [s.cause for s in found] == ["dead range", "coarse rounding"]
    assert "keep_float=[c1, c2]" in found[-1].fix


def test_a_join_in_a_file_that_computes_in_float_is_repaired_in_float() -> None:
    found = diagnose(evidence(UNITS["joined ranges"], quantised=False)).suspects[0]
    assert "static-int8" not in found.fix


def test_what_brings_nothing_back_is_no_suspect() -> None:
    helpless = replace(UNITS["dead range"], gain_db=0.0)
    assert not diagnose(evidence(helpless)).suspects


def test_the_stage_that_lost_most_comes_first() -> None:
    saturating = RuntimeDifference("conv1", "relu1", 0.4, 90.0, 1.9, "Conv")
    found = evidence(UNITS["dead range"], runtime=(saturating,))
    here = diagnose(replace(found, stages={PRECISION: 20.0, RUNTIME: -5.0}))
    assert (here.stage, here.suspects[0].cause) == (RUNTIME, "accumulator saturation")
    there = diagnose(replace(found, stages={PRECISION: -5.0, RUNTIME: 25.0}))
    assert (there.stage, there.suspects[0].cause) == (PRECISION, "dead range")


def test_saturation_needs_products_that_can_saturate() -> None:
    stages = {PRECISION: 25.0, RUNTIME: -5.0}
    small = RuntimeDifference("conv1", "relu1", 0.4, 90.0, 0.7, "Conv")
    assert diagnose(evidence(runtime=(small,), stages=stages)).suspects[0].cause == "runtime arithmetic"
    vnni = evidence(runtime=(replace(small, pair_sum=1.9),), stages=stages, safe_8_bits=True)
    assert diagnose(vnni).suspects[0].cause == "runtime arithmetic"


def test_calibration_data_unlike_the_samples() -> None:
    unlike = Calibration(12, 0.2, 0.0, 9.0, 9.0)
    first = diagnose(evidence(calibration=unlike)).suspects[0]
    assert first.cause == "calibration data"
    assert "--copy data.calibration=data.tune" in first.fix
    assert not diagnose(evidence(calibration=replace(unlike, clipped_there=0.15))).suspects


def test_overflow_attribute_and_weights() -> None:
    over = Overflow("conv1", ("c1", "c2"), "relu1", 9e4, 7)
    assert diagnose(evidence(overflows=(over,), half=True, quantised=False)).suspects[0].cause == "fp16 overflow"
    stages = {"import": 2.0, PRECISION: 25.0}
    changed = LayerDifference("import", "bn1", "bn1", 1.0, "epsilon 0.001 became 30")
    first = diagnose(evidence(layers=(changed,), stages=stages)).suspects[0]
    assert (first.stage, first.cause) == ("import", "different attribute")
    other = diagnose(evidence(layers=(replace(changed, attribute="", weights_db=-2.0),), stages=stages))
    assert other.suspects[0].cause == "different weights"


def test_input_and_labels() -> None:
    bgr = Convention("channel order", 1.0, "channels reversed", ({"op": "channel-order", "order": "bgr"},))
    first = diagnose(evidence(conventions=(bgr,), stages={PREPROCESSING: -3.0, PRECISION: 25.0})).suspects[0]
    assert (first.stage, first.cause) == (PREPROCESSING, "channel order")
    labels = LabelOrder("moved", ("b", "a"), 1.0)
    first = diagnose(evidence(labels=labels, stages={POSTPROCESSING: -60.0, PRECISION: 25.0})).suspects[0]
    assert (first.stage, first.cause) == (POSTPROCESSING, "label order")


def test_every_fix_is_a_command_whose_passes_exist() -> None:
    over = Overflow("conv1", ("c1",), "relu1", 9e4, 7)
    found = evidence(*UNITS.values(), overflows=(over,))
    suspects = diagnose(found).suspects
    assert len(suspects) >= len(UNITS)
    for suspect in suspects:
        words = shlex.split(suspect.fix)
        assert words[:2] == ["edgewright", "apply"]
        for flag, text in itertools.pairwise(words):
            if flag == "--pass":
                registry.make("passes", parse_step(text))


def test_a_processor_that_saturates_gets_seven_bits() -> None:
    fix = diagnose(evidence(UNITS["dead range"])).suspects[0].fix
    assert "scheme=onnxruntime-u8s8-pairs" in fix
    safe = diagnose(evidence(UNITS["dead range"], safe_8_bits=True)).suspects[0].fix
    assert "scheme=onnxruntime-u8s8" in safe


def test_thresholds_are_where_the_rules_turn() -> None:
    wide = 6.0 * THRESHOLDS.wide
    assert not diagnose(evidence(replace(HEALTHY, range=(0.0, wide * 0.95)))).suspects
    assert diagnose(evidence(replace(HEALTHY, range=(0.0, wide * 1.05)))).suspects
