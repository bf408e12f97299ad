"""Other processors, emulated: what it takes is fetched once into a cache folder, without root and outside the system.

QEMU's user mode comes from Debian 13 (version 10; 7.2 of Debian 12 crashes when ONNX Runtime is imported on Arm), the
Arm userland from Debian 12 (Python 3.11), ONNX Runtime and what Edgewright imports as Arm wheels from pip's index.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[2] / "src"
FEEDER = Path(__file__).with_name("feeder.py")
CACHE = Path(os.environ.get("EDGEWRIGHT_PROVE_CACHE", Path.home() / ".cache" / "edgewright-prove"))
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
EMULATOR_SUITE, ARM_SUITE, ARM_PYTHON = "trixie", "bookworm", "3.11"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
LIMIT_S = 3600


@dataclass(frozen=True)
class Machine:
    """A processor to run Python on: this one, or an emulated one."""

    name: str
    python: tuple[str, ...]
    packages: tuple[str, ...] = ()
    work: Path = field(default_factory=Path)

    def run(self, *arguments: str) -> str:
        """Runs Python with `arguments` and returns what it printed."""
        path = os.pathsep.join([str(SOURCE), *self.packages])
        env = {**os.environ, "PYTHONPATH": path, "EDGEWRIGHT_CACHE": str(self.work / f"cache-{self.name}")}
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
    """This machine and three emulated ones; without the emulators the proof fails on CI and is skipped elsewhere."""
    try:
        root = _prepared()
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", "") or ""
        reason = f"emulators cannot be installed: {error} {output[-2000:]}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(reason)
        pytest.skip(reason)
    work = tmp_path_factory.mktemp("machines")
    emulator, arm = root / "emulator" / "usr" / "bin", root / "arm"
    x86 = str(emulator / "qemu-x86_64")
    arm_python = str(arm / "usr" / "bin" / f"python{ARM_PYTHON}")
    found = [Machine("native", (sys.executable,), (), work)]
    found += [Machine(cpu, (x86, "-cpu", cpu, sys.executable), (), work) for cpu in ("Haswell", "Nehalem")]
    found += [
        Machine(
            cpu, (str(emulator / "qemu-aarch64"), "-cpu", cpu, "-L", str(arm), arm_python), (str(root / "site"),), work
        )
        for cpu in ("cortex-a72", "cortex-a76")
    ]
    return {machine.name: machine for machine in found}


def _prepared() -> Path:
    """Returns the folder with `emulator`, `arm` and `site`, made on the first call."""
    wanted = {
        "onnxruntime": version("onnxruntime"),
        "suites": [EMULATOR_SUITE, ARM_SUITE, ARM_PYTHON],
        "recipe": 1,
    }
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    root = CACHE / key
    if not (root / "site").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE, prefix=".making-"))
        try:
            _fetch_debian(made / "emulator", EMULATOR_SUITE, "amd64", ("qemu-user",), dependencies=False)
            _fetch_debian(made / "arm", ARM_SUITE, "arm64", ("python3", "libstdc++6"), dependencies=True)
            _fetch_wheels(made / "site", f"onnxruntime=={wanted['onnxruntime']}")
            shutil.rmtree(root, ignore_errors=True)
            made.replace(root)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return root


def _fetch_debian(out: Path, suite: str, arch: str, packages: Sequence[str], *, dependencies: bool) -> None:
    """Unpacks Debian packages into `out` with apt's own check of signatures, touching nothing of this system's apt."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (state / name).mkdir(parents=True)
        (state / "sources.list").write_text(f"deb [signed-by={KEYS}] {_mirror()} {suite} main\n")
        (state / "status").touch()
        settings = {
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root",
            "Dir::Etc::sourcelist": str(state / "sources.list"),
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": str(state / "lists"),
            "Dir::State::status": str(state / "status"),
            "Dir::Cache": str(state / "cache"),
        }
        apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in settings.items())]
        _run([*apt, "update"])
        if dependencies:
            _run([*apt, "install", "--yes", "--no-install-recommends", "--download-only", *packages])
        else:
            _run([*apt, "download", *packages], cwd=state / "debs")
        for deb in sorted([*state.glob("debs/*.deb"), *state.glob("cache/archives/*.deb")]):
            _run(["dpkg-deb", "-x", str(deb), str(out)])


def _mirror() -> str:
    """Returns the Debian mirror that this system is set up with."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    return next((uri for uri in listed if uri.rstrip("/").endswith("/debian")), "http://deb.debian.org/debian")


def _fetch_wheels(out: Path, runtime: str) -> None:
    needed = (runtime, "numpy", "msgspec", "packaging", "rich", "typer")
    with tempfile.TemporaryDirectory() as folder:
        where = [f"--platform={name}" for name in PLATFORMS]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *where]
        _run([*pip, "--python-version", ARM_PYTHON, "--dest", folder, *needed])
        for wheel in sorted(Path(folder).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(out)


def _run(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=LIMIT_S, check=True)
    return done.stdout


@pytest.fixture(scope="session")
def prove_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for models, with a cache of its own for the steps that make them."""
    return tmp_path_factory.mktemp("prove")
