"""A copy of the tiny project for one case of bad input to spoil, and what must hold once it was refused."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx

TINY = Path(__file__).parents[1] / "project" / "conftest.py"
LIMITED = '[search]\nladder = ["float"]'
HALF_WRITTEN = re.compile(r"\.tmp$|\.partial|^\.unpacking|~$")
NO_NAMESPACE = 99
SMALL_DISK = """
mount -t tmpfs -o size=$0k none "$1" || exit 99
disk=$1 copy=$2; shift 2
"$@"; code=$?
cp -a "$disk/." "$copy"
exit $code
"""


@dataclass
class Scene:
    """A copy of the tiny project for one case to spoil, and how the command line is run on it."""

    folder: Path
    cache: Path
    finished: Path
    env: dict[str, str] = field(default_factory=dict)
    wrap: tuple[str, ...] = ()
    inspected: list[Path] = field(default_factory=list)

    @property
    def toml(self) -> Path:
        return self.folder / "edgewright.toml"

    @property
    def output(self) -> Path:
        return self.folder / "edgewright-out"

    def edit(self, old: str, new: str) -> None:
        text = self.toml.read_text()
        assert old in text
        self.toml.write_text(text.replace(old, new, 1))

    def data(self, change: Callable[[dict[str, np.ndarray]], None]) -> None:
        arrays = dict(np.load(self.folder / "digits.npz"))
        change(arrays)
        np.savez(self.folder / "digits.npz", **arrays)

    def model(self, change: Callable[[onnx.ModelProto], None]) -> None:
        model = onnx.load(self.folder / "model.onnx", load_external_data=False)
        change(model)
        (self.folder / "model.onnx").write_bytes(model.SerializeToString())

    def bundle(self) -> Path:
        return Path(shutil.copy(self.finished / "edgewright-out" / "tiny-onnxruntime.ewb", self.folder / "b.ewb"))

    def full_disk(self, kib: int, place: Path) -> None:
        """Runs the command where `place` is a disk of `kib` KiB, and keeps what is left on it."""
        copy = self.folder / "as-left"
        for path in (place, copy):
            path.mkdir(exist_ok=True)
        self.wrap = ("unshare", "--mount", "--map-root-user", "sh", "-c", SMALL_DISK, str(kib), str(place), str(copy))
        self.inspected.append(copy)

    def run(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "EDGEWRIGHT_CACHE": str(self.cache), **self.env}
        command = [*self.wrap, sys.executable, "-m", "edgewright.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=False, cwd=self.folder)


Spoil = Callable[[Scene], "list[str] | None"]


@dataclass(frozen=True)
class Case:
    name: str
    code: int
    says: str
    fix: str
    slow: bool
    spoil: Spoil


CASES: list[Case] = []


def case(code: int, says: str, fix: str, *, slow: bool = False) -> Callable[[Spoil], None]:
    """Registers a case: exit code, and what message and hint match; it returns arguments, None for `optimize`."""
    return lambda spoil: CASES.append(Case(spoil.__name__, code, says, fix, slow, spoil))


def npz_case(says: str, fix: str, change: Callable[[dict[str, np.ndarray]], None], name: str) -> None:
    """Registers a case that changes the arrays."""
    CASES.append(Case(name, 2, says, fix, False, lambda scene: scene.data(change)))


def toml_case(name: str, old: str, new: str, says: str, fix: str, *, code: int = 2, slow: bool = False) -> None:
    CASES.append(Case(name, code, says, fix, slow, lambda scene: scene.edit(old, new)))


def tiny() -> ModuleType:
    """Returns the module that writes the tiny project."""
    spec = importlib.util.spec_from_file_location("tiny_project", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished_project(folder: Path) -> Path:
    """Returns the folder of a tiny project that was optimised; its cache lies beside it."""
    made = folder / "finished"
    made.mkdir()
    tiny().write_project(made, tiny().TOML.replace("[search]", LIMITED))
    found = Scene(made, folder / "cache", made).run(["optimize", str(made), "--quiet"])
    assert found.returncode == 0, found.stderr
    return made


def scene_of(folder: Path, finished: Path) -> Scene:
    """Returns a fresh copy of the project in `folder`."""
    project = folder / "project"
    project.mkdir(parents=True)
    for name in ("edgewright.toml", "digits.npz", "model.onnx"):
        shutil.copy(finished / name, project)
    return Scene(project, folder / "cache", finished)


def attempt(case: Case, scene: Scene) -> subprocess.CompletedProcess[str]:
    """Spoils the scene and runs the command."""
    arguments = case.spoil(scene) or ["optimize", str(scene.folder), "--quiet"]
    return scene.run(arguments)


def told(found: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Returns message and hint as the reader sees them on the error stream."""
    _, _, text = found.stderr.partition("error: ")
    message, _, hint = text.partition("\n  fix: ")
    return message.strip(), hint.strip()


def problems(case: Case, scene: Scene, found: subprocess.CompletedProcess[str]) -> list[str]:
    """Returns what is wrong with how the command refused its input; empty when nothing is."""
    message, hint = told(found)
    wrong = []
    if found.returncode != case.code:
        wrong.append(f"exit code {found.returncode}, expected {case.code}")
    if not re.search(case.says, message, re.DOTALL):
        wrong.append(f"the message does not match {case.says!r}")
    if not hint or not re.search(case.fix, hint, re.DOTALL):
        wrong.append(f"the hint does not match {case.fix!r}")
    if "Traceback" in found.stderr + found.stdout:
        wrong.append("a traceback is shown")
    return [*wrong, *half_written(scene)]


def half_written(scene: Scene) -> list[str]:
    """Returns what a failed command must not leave behind."""
    roots = [scene.folder, scene.cache, *scene.inspected]
    files = [path for root in roots if root.exists() for path in root.rglob("*")]
    left = [f"left behind: {path}" for path in files if HALF_WRITTEN.search(path.name)]
    left += [f"left behind: {path}" for root in roots for path in (root / "tmp").glob("*")]
    left += [f"not whole: {path}" for path in files if path.suffix == ".json" and not _whole_json(path)]
    if scene.output.exists() and not (scene.output / "study.json").exists():
        left.append("the output folder holds no study")
    return left


def _whole_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True
