"""Passes on a model without a search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgewright.core.recipe import StepSpec
from edgewright.errors import ConfigError, UsageError
from edgewright.project.apply import Job, apply_passes
from edgewright.project.config import load_project
from edgewright.store.cache import Cache

INT8 = StepSpec("static-int8", {"scheme": "onnxruntime-u8s7"})


def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    cache = Cache(tmp_path / "cache")
    with pytest.raises(ConfigError, match="clean-upp"):
        apply_passes(Job(model, (StepSpec("clean-upp"),), tmp_path / "out"), cache=cache)
    with pytest.raises(UsageError, match="an artifact needs a folder"):
        apply_passes(Job(model, (), tmp_path / "out.onnx", target=StepSpec("onnxruntime")), cache=cache)
    with pytest.raises(UsageError, match="no model"):
        apply_passes(Job(model, (), tmp_path / "out"), cache=cache)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_writes_the_quantised_model_its_steps_and_its_artifact(tiny: Path, tmp_path: Path) -> None:
    project = load_project(tiny)
    out = tmp_path / "made"
    job = Job(tiny.parent / "model.onnx", (StepSpec("clean-up"), INT8), out, project, StepSpec("onnxruntime"), True)
    cache = Cache(tmp_path / "own")
    made = apply_passes(job, cache=cache)
    assert made.steps == ("import", "clean-up", "static-int8")
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(made.model).graph.node)
    assert sorted(path.name for path in (out / "steps").iterdir()) == ["0-import", "1-clean-up", "2-static-int8"]
    assert json.loads((out / "artifact" / "artifact.json").read_text())["target"] == "onnxruntime"
    again = apply_passes(job, cache=cache)
    assert again == made


@pytest.mark.slow
def test_a_pass_that_needs_data_asks_for_a_project(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs data") as caught:
        apply_passes(Job(tiny.parent / "model.onnx", (INT8,), tmp_path / "out"))
    assert "--project" in caught.value.hint


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    from edgewright.project import apply as module

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="something else"):
        module._refuse_other(tmp_path / "out")


@pytest.mark.parametrize("spec", [StepSpec("calibrate"), replace(INT8, name="sensitivity")], ids=str)
def test_passes_that_give_no_model_are_refused(tmp_path: Path, spec: StepSpec) -> None:
    with pytest.raises(ConfigError, match="measures and gives no model"):
        apply_passes(Job(tmp_path / "model.onnx", (spec,), tmp_path / "out"), cache=Cache(tmp_path / "cache"))
    assert not (tmp_path / "out").exists()
