"""Processors to run bundles on: this one, and emulated ones."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FEEDER = Path(__file__).with_name("feeder.py")
LIMIT_S = 3600

_SPEC = importlib.util.spec_from_file_location("emulation", Path(__file__).parents[1] / "_emulation.py")
assert _SPEC is not None
assert _SPEC.loader is not None
emulation = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(emulation)


@dataclass(frozen=True)
class Machine:
    """A processor to run Python on: this one, or an emulated one."""

    name: str
    python: tuple[str, ...]
    work: Path = field(default_factory=Path)

    def run(self, *arguments: str) -> str:
        """Runs Python with `arguments` and returns what it printed."""
        cache = str(self.work / f"cache-{self.name}")
        env = {**os.environ, "PYTHONPATH": str(SOURCE), "EDGEWRIGHT_CACHE": cache}
        command = [*self.python, "-s", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=LIMIT_S, check=False)
        assert done.returncode == 0, f"{self.name}: {done.stderr[-3000:]}"
        return done.stdout

    def feed(self, bundle: Path, arrays: Path) -> dict[str, Any]:
        """Runs `bundle` on every array and returns what `feeder.py` says."""
        found: dict[str, Any] = json.loads(
            self.run(str(FEEDER), str(bundle), str(arrays), str(self.work / f"unpacked-{self.name}"))
        )
        assert found["builder"] == [], "the device half imports nothing of the builder"
        return found

    def verify(self, bundle: Path) -> dict[str, Any]:
        """Runs `edgewright verify`, which fails where a golden pair comes out differently."""
        found: dict[str, Any] = json.loads(self.run("-m", "edgewright.cli", "verify", str(bundle), "--json"))
        return found


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Machine]:
    """This machine and four emulated ones; without the emulators the proof fails on CI and is skipped elsewhere."""
    root = emulation.prepared()
    work = tmp_path_factory.mktemp("machines")
    x86 = str(emulation.emulator(root, "qemu-x86_64"))
    found = [Machine("native", (sys.executable,), work)]
    found += [Machine(cpu, (x86, "-cpu", cpu, sys.executable), work) for cpu in ("Haswell", "Nehalem")]
    for cpu in ("cortex-a72", "cortex-a76"):
        found.append(Machine(cpu, (str(emulation.arm_python(root, cpu, work / cpu)),), work))
    return {machine.name: machine for machine in found}


@pytest.fixture(scope="session")
def prove_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for models, with a cache of its own for the steps that make them."""
    return tmp_path_factory.mktemp("prove")
