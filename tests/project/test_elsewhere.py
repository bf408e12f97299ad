"""Targets that do not run here: compiled, proven, predicted, and called unproven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import Study
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize

ABSENT = "a phone predicts only on a phone"
PHONES = f"""
[[targets]]
name = "null"
label = "old-phone"
absent = "{ABSENT}"
[[targets]]
name = "null"
label = "new-phone"
absent = "{ABSENT}"
"""


def studied(toml: Path) -> Study:
    outcome = optimize(load_project(toml))
    assert set(outcome.bundles) == {"onnxruntime", "old-phone", "new-phone"}
    assert len({path.name for path in outcome.bundles.values()}) == 3
    return decode_stored(Study, outcome.study_json.read_bytes())


@pytest.mark.slow
def test_what_does_not_run_here_is_predicted_and_called_unproven(tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("[search]\n", '[search]\nladder = ["fp16"]\n') + PHONES)
    study = studied(tiny)
    assert study.met == {"onnxruntime": True, "old-phone": True, "new-phone": True}
    winner = study.best("old-phone")
    assert winner.measurement is not None
    assert winner.measurement.timing is None
    assert winner.measurement.size is not None
    assert winner.measurement.tune.stand_in == "the same graph in onnxruntime"
    assert winner.measurement.test is not None
    assert winner.measurement.test.stand_in == winner.measurement.tune.stand_in
    assert winner.proof == ("its digest was written",)
    assert winner.unproven[0] == ABSENT
    assert "its speed not measured" in winner.why
    assert "predicted by the same graph in onnxruntime" in winner.why
    assert "golden" in winner.evidence
    report = (tiny.parent / "edgewright-out" / "report.html").read_text()
    assert report.count(ABSENT) >= 2, "once per phone"
    assert "unproven" in report
    table = json.loads((tiny.parent / "edgewright-out" / "report.json").read_text())
    assert "unproven" in json.dumps(table)


@pytest.mark.slow
def test_strict_refuses_a_winner_that_was_not_measured_on_its_target(tiny: Path) -> None:
    strict = '[search]\nstrict = true\nladder = ["float"]\n'
    tiny.write_text(tiny.read_text().replace("[search]\n", strict) + PHONES)
    study = studied(tiny)
    assert study.met == {"onnxruntime": True, "old-phone": False, "new-phone": False}
    assert "latency on the target itself could not be measured here" in study.best("old-phone").why
