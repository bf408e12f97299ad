"""What a target refuses may depend on its own fields, and is asked with them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

pytest.importorskip("tflite_micro")

from edgewright.core.recipe import StepSpec
from edgewright.measure.survey import SurveyStep
from edgewright.testing import targets as suite


def test_a_board_too_small_is_told_before_anything_is_tried(tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    out.mkdir()
    case = next(case for case in suite.CASES if case.name == "residual")
    onnx.save(case.build(), str(model / "model.onnx"))
    for settings, expected in (({}, 0), ({"ram_kb": 1, "flash_kb": 16}, 2)):
        step = SurveyStep({"null": StepSpec("null"), "board": StepSpec("micro", settings)})
        step.run({"model": model}, out, suite.QuietContext(tmp_path))
        refusals = json.loads((out / "survey.json").read_bytes())["refusals"]
        assert refusals["null"] == []
        assert len(refusals["board"]) == expected
        assert all("does not fit" in reason for reason in refusals["board"])
