"""A project file with some keys changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.errors import ConfigError, UsageError
from edgewright.project.amend import amend_project, to_toml
from edgewright.project.config import load_project

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOML = """
# a comment
schema = 1
name = "amended"
labels = ["a", "b"]
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "data.npz"
[data.calibration]
path = "dark.npz"
[data.tune]
rows = "0:10"
[[preprocess]]
op = "layout"
order = "chw"
[[targets]]
name = "onnxruntime"
"""
KEYS = st.text(min_size=1, max_size=6)
PLAIN = st.one_of(st.booleans(), st.integers(-(2**50), 2**50), st.floats(allow_nan=False, allow_infinity=False), KEYS)
VALUES = st.recursive(PLAIN, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(KEYS, v, max_size=3)))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "edgewright.toml").write_text(TOML)
    return tmp_path / "edgewright.toml"


def test_keys_are_set_and_copied(project: Path) -> None:
    out = project.with_name("fixed.toml")
    tables = '[{"op": "channel-order", "order": "bgr"}, {"op": "layout", "order": "chw"}]'
    amend_project(project, out, [f"preprocess={tables}", 'labels=["b", "a"]'], ["data.calibration=data.tune"])
    made = load_project(out).file
    assert made.labels == ("b", "a")
    assert [table["op"] for table in made.preprocess] == ["channel-order", "layout"]
    assert made.data["calibration"] == {"rows": "0:10"}
    assert made.data["path"] == "data.npz"
    assert project.read_text() == TOML


@pytest.mark.parametrize(
    ("changes", "copies", "says"),
    [
        (["labels"], [], "not key=value"),
        (["labels=[a]"], [], "not JSON"),
        (["name.first=1"], [], "no table"),
        ([], ["data.calibration=data.tun"], "tun"),
    ],
)
def test_a_change_of_another_form_is_refused(project: Path, changes: list[str], copies: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        amend_project(project, project.with_name("out.toml"), changes, copies)
    assert caught.value.hint
    assert not project.with_name("out.toml").exists()


def test_what_is_no_project_any_more_is_not_written(project: Path) -> None:
    with pytest.raises(ConfigError, match="labls"):
        amend_project(project, project.with_name("out.toml"), ['labls=["a"]'], [])
    assert not project.with_name("out.toml").exists()


def test_the_new_file_stays_in_the_folder_of_the_paths(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belongs there"):
        amend_project(project, tmp_path / "elsewhere" / "out.toml", [], [])


@pytest.mark.slow
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_toml_is_read_back(table: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(table)) == table
