"""A project narrowed to some of its targets."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.errors import ConfigError
from edgewright.project.config import Project, load_project
from edgewright.project.select import narrowed

TOML = """
schema = 1
name = "shown"
[model]
source = "model.onnx"
[[targets]]
name = "null"
[[targets]]
name = "null"
label = "pi"
device = "ssh://pi@host"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "edgewright.toml").write_text(TOML)
    return load_project(tmp_path)


def test_targets_are_named_by_their_labels(project: Project) -> None:
    assert [target.label for target in narrowed(project, ("pi",)).targets] == ["pi"]
    assert narrowed(project, ("pi",)).targets[0].device == "ssh://pi@host"
    assert narrowed(project) == project


def test_a_target_nobody_knows_is_refused_with_the_near_one(project: Project) -> None:
    with pytest.raises(ConfigError, match='no target "nul"') as refused:
        narrowed(project, ("nul",))
    assert refused.value.hint == 'did you mean "null"?'


def test_results_can_go_elsewhere(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert narrowed(project, (), Path("results/pi")).output == tmp_path / "results" / "pi"
    assert project.output == tmp_path / "edgewright-out"
