"""A search whose clock is a device of the lab, reached over a real sshd."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.codec import decode_stored
from edgewright.core.recipe import Study
from edgewright.errors import UsageError
from edgewright.project.config import load_project
from edgewright.project.optimize import optimize

_SPEC = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[2] / "project" / "conftest.py")
assert _SPEC is not None
assert _SPEC.loader is not None
TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(TINY)

ON_PI = """
[[targets]]
name = "onnxruntime"
label = "pi"
device = "kitchen"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEWRIGHT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    return Path(TINY.write_project(folder, TINY.TOML.replace("[search]\n", '[search]\nladder = ["float"]\n') + ON_PI))


@pytest.mark.slow
def test_a_search_measures_on_the_device_of_the_lab(project: Path, sshd: Any) -> None:
    lab = f'[[devices]]\nname = "kitchen"\naddress = "{sshd.address}"\n'
    (project.parent / "lab.toml").write_text(lab)
    project.write_text(project.read_text().replace("[search]\n", "[search]\nstrict = true\n"))
    outcome = optimize(load_project(project))
    study = decode_stored(Study, outcome.study_json.read_bytes())
    assert study.met == {"onnxruntime": True, "pi": True}, "strict: it was measured"
    here, there = study.best("onnxruntime").measurement, study.best("pi").measurement
    assert here is not None
    assert there is not None
    assert (here.device.name, there.device.name) == ("local", "kitchen")
    assert study.devices["pi"].name == "kitchen"
    assert there.timing is not None
    assert there.tune.figures == here.tune.figures, "the same bits decide the same"
    assert there.timing.conditions.rounds >= 6
    assert "on kitchen" in (outcome.folder / "report.html").read_text()
    assert optimize(load_project(project)).workers == 0


def test_a_device_that_the_lab_does_not_have_is_named(project: Path) -> None:
    (project.parent / "lab.toml").write_text('[[devices]]\nname = "cellar"\naddress = "local"\n')
    with pytest.raises(UsageError, match='no device "kitchen"') as error:
        optimize(load_project(project))
    assert "cellar" in str(error.value.hint)
