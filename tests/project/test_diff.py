"""`edgewright diff` from files to files: releases read, timed only where this machine's clock counts, views written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from edgewright.cli.diff import diff as command
from edgewright.core.budget import Budget
from edgewright.core.codec import encode_json
from edgewright.core.data import QualityFigure
from edgewright.core.digest import Digest
from edgewright.core.measurement import Conditions, Device, Measurement, Quality, Ratio, Summary, Timing
from edgewright.core.recipe import Candidate, Recipe, Study
from edgewright.errors import UsageError
from edgewright.project.diff import NO_BUNDLES, diff
from edgewright.project.diff import Timing as Timed
from edgewright.report.json_report import report_json
from edgewright.search.release import Tolerance

DEVICE = Device("local", "x86_64", "a processor", 2, (), 8_000_000_000, "Linux")
ARTIFACT = Digest("sha256:" + "0" * 64)


def study(value: float = 0.9, size: int = 1000, device: Device = DEVICE, stand_in: str = "") -> Study:
    summary = Summary(1.0, 1.0, 1.0, 1.0, 1.0, 100)
    clock = Timing(
        summary,
        summary,
        Ratio(2.0, 1.9, 2.1),
        1.0,
        1.0,
        size,
        1000,
        None,
        "",
        Conditions(1, 1, None, None, 0.1, 10, 20),
    )
    figure = QualityFigure("top-1", value, value - 0.01, value + 0.01, 500, "test")
    quality = Quality((figure,), stand_in=stand_in)
    made = Candidate(
        "a/int8", "a", Recipe("int8", ()), 1, 1, measurement=Measurement(ARTIFACT, device, quality, quality, clock)
    )
    return Study(1, "shown", device, (), (), Budget(), "latency", made, (made,), {"a": "a/int8"}, {"a": True})


def written(folder: Path, made: Study) -> Path:
    folder.mkdir()
    (folder / "study.json").write_bytes(encode_json(made))
    (folder / "report.json").write_bytes(report_json(made))
    return folder


def test_a_study_and_a_report_are_the_same_release(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old", study()), written(tmp_path / "new", study(0.8, 1200))
    for one in (old, old / "study.json", old / "report.json"):
        found = diff(one, new, Tolerance())
        assert [reason.split()[1] for reason in found.reasons()] == ["top-1", "size"]
    with pytest.raises(UsageError, match="neither release has b"):
        diff(old, new, Tolerance(), targets=("b",))


def test_a_clock_that_tells_nothing_is_not_used(tmp_path: Path) -> None:
    def notes(name: str, made: Study) -> tuple[str, ...]:
        one = written(tmp_path / name, made)
        return diff(one, one, Tolerance(), timing=Timed(1.0)).targets[0].notes

    assert NO_BUNDLES in notes("plain", study())
    assert "not timed here: a was measured on pi" in notes("pi", study(device=replace(DEVICE, name="pi")))
    assert "not timed here: a does not run on this machine" in notes("phone", study(stand_in="onnxruntime"))


def test_the_command_tells_a_program_and_fails_with_the_reason(tmp_path: Path) -> None:
    old, new = written(tmp_path / "old", study()), written(tmp_path / "new", study(0.8))
    app = typer.Typer()
    app.command()(command)
    files = {name: tmp_path / name for name in ("page.html", "cases.xml", "summary.md")}
    options = [
        "--html",
        str(files["page.html"]),
        "--junit",
        str(files["cases.xml"]),
        "--markdown",
        str(files["summary.md"]),
    ]
    failed = CliRunner().invoke(app, [str(old), str(new), "--json", *options])
    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert told["worse"]
    assert told["reasons"][0].startswith("a: top-1 on test went from 90.0% to 80.0%: -10.0 points")
    assert told["diff"]["targets"][0]["findings"][0]["verdict"] == "worse"
    for file in files.values():
        assert "went from 90.0% to 80.0%" in file.read_text()
    allowed = CliRunner().invoke(app, [str(old), str(new), "--max-drop", "0.2"])
    assert allowed.exit_code == 0
    assert "new is not worse than old" in allowed.stdout
