"""Bad input, through the real command line: exit code, message, fix, no traceback, nothing half-written.

`python tests/cli/test_bad_input.py [NAME...]` prints the table of all cases as Markdown.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load(name: str) -> ModuleType:
    """Returns a module beside this one, loaded once: pytest's importlib mode puts no folder on the path."""
    known = f"bad_input{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


scenes = load("_scene")
load("_bad_project")
load("_bad_files")
CASES: list[Any] = scenes.CASES

pytestmark = [
    pytest.mark.slow,  # a hundred starts of the command line
    pytest.mark.xdist_group("bad_input"),  # the project that they spoil is made once
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scenes.finished_project(tmp_path_factory.mktemp("warm"))


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_bad_input(one: Any, finished: Path, tmp_path: Path) -> None:
    scene = scenes.scene_of(tmp_path, finished)
    found = scenes.attempt(one, scene)
    if found.returncode == scenes.NO_NAMESPACE:
        pytest.skip("this machine lets nobody mount a small disk")
    wrong = scenes.problems(one, scene, found)
    assert not wrong, "\n".join([*wrong, found.stdout[-2000:], found.stderr[-4000:]])


def test_the_error_is_json_where_json_was_asked_for(finished: Path, tmp_path: Path) -> None:
    scene = scenes.scene_of(tmp_path, finished)
    found = scene.run(["optimize", str(tmp_path / "nowhere"), "--json"])
    told = json.loads(found.stdout)
    assert (told["error"], told["exit"], found.returncode) == ("ConfigError", 2, 2)
    assert told["message"]
    assert told["hint"]


def _damage(cache: Path) -> int:
    """Flips a byte in every second file of the cache and empties every third record; returns how many."""
    results = sorted(p for p in (cache / "outputs").rglob("*") if p.is_file() and p.stat().st_size)[::2]
    for path in results:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    records = sorted((cache / "actions").rglob("*.json"))[::3]
    for path in records:
        path.write_bytes(path.read_bytes()[:40])
    return len(results) + len(records)


def test_a_corrupt_cache_is_repaired_silently(finished: Path, tmp_path: Path) -> None:
    project, cache = tmp_path / finished.name, tmp_path / "cache"
    shutil.copytree(finished, project)
    shutil.copytree(finished.with_name("cache"), cache)
    scene = scenes.Scene(project, cache, project)
    assert _damage(scene.cache) > 4
    found = scene.run(["optimize", str(project), "--quiet"])
    assert found.returncode == 0, found.stderr
    assert not found.stderr.strip()
    repaired = (scene.output / "study.json").read_bytes()
    assert scene.run(["optimize", str(project), "--quiet"]).returncode == 0
    assert (scene.output / "study.json").read_bytes() == repaired, "nothing was left to measure again"
    verified = scene.run(["verify", str(scene.output / "tiny-onnxruntime.ewb")])
    assert verified.returncode == 0, verified.stderr


def report(names: list[str]) -> None:
    """Prints (case, exit code, message, hint) of every case, or of those named, as a Markdown table."""
    print("| case | exit | message | fix |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bad-input-") as name:
        root = Path(name)
        finished = scenes.finished_project(root)
        for one in (c for c in CASES if not names or c.name in names):
            scene = scenes.scene_of(root / one.name, finished)
            found = scenes.attempt(one, scene)
            message, hint = (
                " ".join(text.split()).replace(name, "").replace("|", "\\|") for text in scenes.told(found)
            )
            print(f"| {one.name} | {found.returncode} | {message} | {hint} |", flush=True)
            for wrong in scenes.problems(one, scene, found):
                print(f"{one.name}: {wrong}\n{found.stderr[-3000:]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    report(sys.argv[1:])
