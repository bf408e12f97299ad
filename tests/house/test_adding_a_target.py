"""The diff in the how-to is a whole target: it applies, is found, and passes the conformance suite."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOW_TO = ROOT / "docs" / "how-to" / "add-a-target.md"


@pytest.mark.slow
def test_the_diff_in_the_how_to_is_a_target_that_conforms(tmp_path: Path) -> None:
    tree = _copied(tmp_path / "tree")
    (tmp_path / "target.diff").write_text(_diff())
    _run(tree, "git", "apply", "--verbose", str(tmp_path / "target.diff"))
    listed = _run(tree, sys.executable, "-m", "edgewright.cli", "targets", "--json")
    assert "onnxruntime-frugal" in listed
    tests = ("-m", "pytest", "-n0", "-v", "-p", "no:cacheprovider", "tests/targets/test_target_conformance.py")
    report = _run(tree, sys.executable, *tests, "-k", "frugal")
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None, report
    assert int(passed.group(1)) >= 20, report


def test_the_diff_touches_one_file_and_one_line_of_extras() -> None:
    files = re.findall(r"^diff --git a/(\S+)", _diff(), re.MULTILINE)
    assert files == ["pyproject.toml", "src/edgewright/targets/onnxruntime_frugal.py"]
    project = _diff().split("diff --git")[1]
    assert len(re.findall(r"^\+[^+]", project, re.MULTILINE)) == 1
    assert not re.findall(r"^-[^-]", _diff(), re.MULTILINE)


def _diff() -> str:
    found = re.search(r"```diff\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert found is not None
    return found.group(1)


def _copied(tree: Path) -> Path:
    tree.mkdir()
    for part in ("src", "tests/targets"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, tree / file)
    return tree


def _run(tree: Path, *command: str) -> str:
    paths = {"PYTHONPATH": f"{tree / 'src'}:{tree / 'tests'}", "EDGEWRIGHT_CACHE": str(tree / "cache")}
    done = subprocess.run(command, cwd=tree, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout
