"""Other processors, emulated: what it takes is fetched once into a cache folder, without root and outside the system.

QEMU's user mode comes from Debian 13 (version 10; 7.2 of Debian 12 crashes when ONNX Runtime is imported on Arm), the
Arm userland from Debian 12 (Python 3.11), runtimes and what Edgewright imports as Arm wheels from pip's index.
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
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("EDGEWRIGHT_PROVE_CACHE", Path.home() / ".cache" / "edgewright-prove"))
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
EMULATOR_SUITE, ARM_SUITE, ARM_PYTHON = "trixie", "bookworm", "3.11"
EMULATORS = ("qemu-aarch64", "qemu-x86_64")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64", "manylinux_2_17_aarch64")
RUNTIMES = ("onnxruntime", "ai-edge-litert")
LIMIT_S = 3600


def prepared() -> Path:
    """Returns the folder with `emulator`, `arm` and `site`, made on the first call.

    Where that cannot be done, the test fails on CI and is skipped elsewhere.
    """
    try:
        return _made()
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", "") or ""
        reason = f"emulators cannot be installed: {error} {output[-2000:]}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(reason)
        pytest.skip(reason)


def emulator(root: Path, name: str) -> Path:
    """Returns one of EMULATORS."""
    return root / "emulator" / "usr" / "bin" / name


def arm_python(root: Path, cpu: str, folder: Path) -> Path:
    """Makes a Python of its own for an emulated Arm processor in `folder`, and returns its interpreter.

    It is laid out as a virtual environment whose `bin/python` starts the emulator. The interpreter believes that this
    script is itself, so that processes which it starts are emulated, too.
    """
    packages = folder / "lib" / f"python{ARM_PYTHON}" / "site-packages"
    packages.parent.mkdir(parents=True)
    packages.symlink_to(root / "site")
    (folder / "pyvenv.cfg").write_text(f"home = {root / 'arm' / 'usr' / 'bin'}\ninclude-system-site-packages = false\n")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    real = root / "arm" / "usr" / "bin" / f"python{ARM_PYTHON}"
    qemu = emulator(root, "qemu-aarch64")
    python.write_text(f'#!/bin/sh\nexec "{qemu}" -cpu {cpu} -L "{root / "arm"}" -0 "$0" "{real}" "$@"\n')
    python.chmod(0o755)
    return python


def _made() -> Path:
    runtimes = {name: version(name) for name in RUNTIMES}
    wanted = {"runtimes": runtimes, "suites": [EMULATOR_SUITE, ARM_SUITE, ARM_PYTHON], "recipe": 2}
    key = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]
    root = CACHE / key
    if not (root / "site").is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=CACHE, prefix=".making-"))
        try:
            _fetch_all(made, runtimes)
            if not (root / "site").is_dir():  # another process may have been faster
                made.replace(root)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return root


def _fetch_all(out: Path, runtimes: dict[str, str]) -> None:
    """Fetches the three parts at the same time: each of them mostly waits for the network."""
    with ThreadPoolExecutor(3) as pool:
        parts = [
            pool.submit(_fetch_emulators, out / "emulator"),
            pool.submit(_fetch_debian, out / "arm", ARM_SUITE, "arm64", ("python3", "libstdc++6"), dependencies=True),
            pool.submit(_fetch_wheels, out / "site", [f"{name}=={number}" for name, number in runtimes.items()]),
        ]
        for part in parts:
            part.result()


def _fetch_emulators(out: Path) -> None:
    """Keeps two of the forty emulators in the package."""
    files = tuple(f"./usr/bin/{name}" for name in EMULATORS)
    _fetch_debian(out, EMULATOR_SUITE, "amd64", ("qemu-user",), dependencies=False, files=files)


def _fetch_debian(
    out: Path, suite: str, arch: str, packages: Sequence[str], *, dependencies: bool, files: Sequence[str] = ()
) -> None:
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
            "Acquire::Languages": "none",
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
        out.mkdir()
        for deb in sorted([*state.glob("debs/*.deb"), *state.glob("cache/archives/*.deb")]):
            _unpack(deb, out, files)


def _unpack(deb: Path, out: Path, files: Sequence[str]) -> None:
    if not files:
        _run(["dpkg-deb", "-x", str(deb), str(out)])
        return
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(out), *files], stdin=archive.stdout, check=True, timeout=LIMIT_S)


def _mirror() -> str:
    """Returns the Debian mirror that this system is set up with."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    return next((uri for uri in listed if uri.rstrip("/").endswith("/debian")), "http://deb.debian.org/debian")


def _fetch_wheels(out: Path, runtimes: Sequence[str]) -> None:
    needed = (*runtimes, "numpy", "msgspec", "packaging", "rich", "typer")
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
