"""The generated workflows, executed: green on a good model, red at the right step with the reason on a bad one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ci-workflow")]

COMPARE, OPTIMISE = "Compare with the last release", "Optimise and check the budget"
PLANTED = {
    # 13 of 400 samples lost, 2 gained: only the paired interval can tell that from chance
    "worse": ({"noise": 0.2}, r"top-1 on test went from .* paired on 400 samples\); a loss of at most 0\.50 points"),
    "slower": ({"layers": 60}, r"a sample takes [\d.]+ times as long .* timed in turn here\); at most 1\.10 times"),
    "larger": ({"table": 4000}, r"size on disk went from .* \(\+[\d.]+%\); at most 10\.0% more is allowed"),
}


def test_the_first_run_is_green_and_its_results_are_kept_and_released(shop: Any) -> None:
    assert shop.first.ok, shop.first.log
    assert "no release yet" in shop.first.step("Fetch the last release").log
    assert "every target meets the budget" in shop.first.summary
    kept = {path.name for path in (shop.github.artifacts / shop.files.NAME).iterdir()}
    bundle, outcomes = f"{shop.files.NAME}.ewb", f"{shop.files.NAME}.outcomes.json.gz"
    assert kept == {"report.html", "report.json", "study.json", "junit.xml", "summary.md", bundle, outcomes}
    assert shop.released.ok, shop.released.log
    assert [path.name for path in (shop.github.releases / "v1").iterdir()] == [f"{shop.files.NAME}.tar.gz"]


def test_the_same_model_is_green_from_the_cache_of_another_checkout(shop: Any) -> None:
    before = {path.name for path in (shop.github.caches / "actions").glob("*/*.json")}
    run = shop.github.optimise()
    assert run.step(OPTIMISE).outcome == "success", run.log
    assert "0 of 400 samples are decided differently" in run.summary
    assert {path.name for path in (shop.github.caches / "actions").glob("*/*.json")} == before, "nothing was made again"


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_regression_fails_with_the_reason(shop: Any, kind: str) -> None:
    change, reason = PLANTED[kind]
    shop.files.write_model(shop.repository, **change)
    try:
        run = shop.github.optimise()
    finally:
        shop.files.write_model(shop.repository)
    assert [step.name for step in run.steps if step.outcome == "failure"] == [COMPARE], run.log
    sentence = re.search(f"onnxruntime: {reason}.*", run.step(COMPARE).log)
    assert sentence is not None, run.log
    assert sentence[0] in run.summary.replace("\\", "")
    kept = shop.github.artifacts / shop.files.NAME
    assert sentence[0].partition(": ")[2] in (kept / "diff.xml").read_text()
    assert (kept / f"{shop.files.NAME}.ewb").is_file(), "what failed can be looked at"
    others = {name for name, (_, other) in PLANTED.items() if name != kind and re.search(other, run.log)}
    assert "worse" not in others
    assert kind == "larger" or "larger" not in others


def test_a_broken_budget_fails_before_anything_is_compared(shop: Any) -> None:
    toml = shop.repository / "edgewright.toml"
    text = toml.read_text()
    toml.write_text(text.replace("quality_drop = 0.02", "quality_drop = 0.02\nsize_bytes = 1000"))
    try:
        run = shop.github.optimise()
    finally:
        toml.write_text(text)
    assert [step.name for step in run.steps if step.outcome == "failure"] == [OPTIMISE], run.log
    assert run.step(COMPARE).outcome == "skipped"
    assert "the budget is not met on onnxruntime" in run.summary
    assert "at most 1 kB" in run.summary or "1 kB" in run.summary


def test_the_pipeline_of_gitlab_does_the_same(
    shop: Any, packages: tuple[str, dict[str, bytes]], gitlab_of: Any, tmp_path: Path
) -> None:
    api, stored = packages
    gitlab = gitlab_of(shop.repository, tmp_path, shop.github.workspace, shop.files.VENV_BIN, api)
    first = gitlab.run(shop.files.NAME, shop.github.caches)
    assert first.code == 0, first.log
    assert "no release yet" in first.log
    released = gitlab.run("release", CI_COMMIT_TAG="v1")
    assert released.code == 0, released.log
    versions = {path.split("/")[-2] for path in stored}
    assert versions == {"v1", "latest"}
    shop.files.write_model(shop.repository, **PLANTED["worse"][0])
    try:
        worse = gitlab.run(shop.files.NAME, shop.github.caches)
    finally:
        shop.files.write_model(shop.repository)
    assert worse.code == 1
    assert re.search(f"FAIL onnxruntime: {PLANTED['worse'][1]}", worse.log), worse.log
    assert (gitlab.artifacts / "edgewright-out" / shop.files.NAME / "diff.xml").is_file()
