"""Edgewright and a runtime as wheels for the machine and the Python of a device."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import edgewright
from edgewright.core.codec import decode_stored
from edgewright.errors import ConnectionLost, StepFailed, ToolchainMissing
from edgewright.measure.devices.address import Address
from edgewright.measure.devices.transports import bare_python, run_script

LEAST_PYTHON = (3, 10)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ASK = (
    "import json,platform,sys;"
    "print(json.dumps({'version':list(sys.version_info[:2]),'machine':platform.machine(),"
    "'system':platform.system(),'libc':list(platform.libc_ver())}))"
)
_OLDEST_GLIBC, _OLDEST_MUSL = 17, 1


@dataclass(frozen=True, slots=True)
class Interpreter:
    """The Python of a device, before anything of ours is there.

    Attributes:
        version: Major and minor.
        machine: `aarch64`, `x86_64`...
        system: `Linux`...
        libc: Name and version of the C library; empty where it is not glibc.
    """

    version: tuple[int, int]
    machine: str
    system: str
    libc: tuple[str, str]

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags of wheels that run there (PEP 600 and 656), newest first."""
        if self.libc[0] == "glibc":
            newest = int(self.libc[1].split(".")[1])
            tags = [f"manylinux_2_{minor}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)] + ["manylinux2014"]
        else:
            tags = [f"musllinux_1_{minor}" for minor in range(2, _OLDEST_MUSL - 1, -1)]
        return tuple(f"{tag}_{self.machine}" for tag in tags)


def interpreter_of(address: Address) -> Interpreter:
    """Asks a device which Python it has.

    Raises:
        ConnectionLost: It cannot be reached.
        ToolchainMissing: It has none, or one that is too old.
    """
    try:
        said = run_script(address, f'exec {bare_python(address)} -c "{_ASK}"')
    except ConnectionLost as error:
        if "status 127" in error.message:
            raise ToolchainMissing(f"{address.title} has no python3", hint="install it there") from error
        raise
    found = decode_stored(Interpreter, said[said.index("{") :].encode())
    if found.version < LEAST_PYTHON or found.system != "Linux":
        what = f"Python {found.version[0]}.{found.version[1]} on {found.system}"
        least = ".".join(map(str, LEAST_PYTHON))
        raise ToolchainMissing(f"{address.title} has {what}", hint=f"Linux with Python {least} or later is needed")
    return found


def collect(folder: Path, python: Interpreter, requirements: Sequence[str], given: Path | None) -> list[Path]:
    """Gathers all wheels that a device needs, Edgewright's own among them, into a folder.

    Args:
        folder: Empty.
        python: Of the device.
        requirements: What is needed beside Edgewright and its dependencies.
        given: A folder of wheels to take them from; the package index without it.

    Raises:
        StepFailed: One of them cannot be had.
    """
    own = own_wheel(folder)
    source = ["--no-index", "--find-links", str(given)] if given else []
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"),
        *("--dest", str(folder), "--implementation", "cp", "--python-version", ".".join(map(str, python.version))),
        *(part for tag in python.platforms for part in ("--platform", tag)),
        *source,
        *(str(own), "pip", *requirements),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        where = f"in {given}" if given else "on the package index"
        raise StepFailed(
            f"not all wheels for Python {'.'.join(map(str, python.version))} on {python.machine} are {where}:\n{said}",
            hint="give a folder that has them: --wheels FOLDER",
        )
    return sorted(folder.glob("*.whl"))


def own_wheel(folder: Path) -> Path:
    """Writes this Edgewright, as it is installed or checked out, as a wheel: the same bytes for the same sources.

    The format is PEP 427.
    """
    root = Path(edgewright.__file__).parent
    info = f"edgewright-{edgewright.__version__}.dist-info"
    ours = [path for path in sorted(root.rglob("*")) if _ours(path)]
    files = {f"edgewright/{path.relative_to(root).as_posix()}": path.read_bytes() for path in ours}
    files |= {f"{info}/{name}": text.encode() for name, text in _metadata().items()}
    record = "".join(f"{name},sha256={_hash(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = folder / f"edgewright-{edgewright.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    return path


def _ours(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"


def _metadata() -> Mapping[str, str]:
    wheel = "Wheel-Version: 1.0\nGenerator: edgewright\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    try:
        installed = distribution("edgewright")
    except PackageNotFoundError as error:
        hint = "install it: pip install edgewright, or pip install -e . in a checkout"
        raise ToolchainMissing("this Edgewright is not installed, so what it needs is not known", hint=hint) from error
    found = {"WHEEL": wheel, "METADATA": installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""}
    entries = installed.read_text("entry_points.txt")
    return found | ({"entry_points.txt": entries} if entries else {})


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def described(wheels: Sequence[Path]) -> str:
    """Returns what is in a list of wheels, for a reader."""
    names = [path.name.split("-") for path in wheels]
    return ", ".join(f"{parts[0]} {parts[1]}" for parts in names)


def digests_in(said: str) -> dict[str, str]:
    """Reads the answer of a device about files: the last line that is JSON."""
    found: dict[str, str] = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))
    return found
