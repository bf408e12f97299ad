"""A toolchain of two small wheels, made here and installed without network: a step of its own, and msgspec.

The first also brings what of NumPy annotations name; the real one would take longer to unpack than all the rest.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

STEP = """
import sys
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Where:
    name: ClassVar[str] = "where"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("tinytool", "typer")
    toolchain: ClassVar[str] = "tiny"
    fail: bool = False

    def run(self, inputs, out, context):
        import importlib.util
        context.progress(0.5, "half way")
        if self.fail:
            from edgewright.errors import DataError
            raise DataError("row 3 is wrong", hint="correct row 3")
        beside = [name for name in ("typer", "onnx", "packaging", "pytest") if importlib.util.find_spec(name)]
        (out / "where").write_text(f"{sys.prefix}|{beside}")
"""
FACTS = "# for: tests\n# python: >=3.10\n# imports: tinytool, edgewright.engine.registry\n# megabytes: 12\n"


def write_lock(folder: Path, wheels: Path, version: str = "1.0") -> Path:
    """Writes `tiny.txt` into `folder` and the wheels it locks into `wheels`."""
    folder.mkdir(parents=True, exist_ok=True)
    wheels.mkdir(parents=True, exist_ok=True)
    made = [_own_wheel(wheels, version), _installed_wheel(wheels, "msgspec")]
    lines = [
        f"{name}=={pin} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for name, pin, path in made
    ]
    path = folder / "tiny.txt"
    path.write_text(FACTS + f"--no-index\n--find-links {wheels}\n" + "\n".join(lines) + "\n")
    return path


def _own_wheel(wheels: Path, version: str) -> tuple[str, str, Path]:
    info = f"tinytool-{version}.dist-info"
    entry = "[edgewright.passes]\nwhere = tinytool:Where\n"
    files = {
        "tinytool.py": STEP.encode(),
        "numpy/__init__.py": b"ndarray = generic = float32 = object\n",
        "numpy/typing.py": b"NDArray = list\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tinytool\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry.encode(),
    }
    path = wheels / f"tinytool-{version}-py3-none-any.whl"
    _write(path, files, f"{info}/RECORD")
    return "tinytool", version, path


def _installed_wheel(wheels: Path, name: str) -> tuple[str, str, Path]:
    """Packs a distribution that is installed here again, as a wheel for this very Python."""
    found = importlib.metadata.distribution(name)
    info = f"{name}-{found.version}.dist-info"
    kept = [file for file in found.files or () if file.suffix != ".pyc" and ".." not in file.parts]
    files = {
        str(file): Path(str(file.locate())).read_bytes() for file in kept if file.name not in ("RECORD", "INSTALLER")
    }
    tag = next(line for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag:"))[5:]
    path = wheels / f"{name}-{found.version}-{tag}.whl"
    _write(path, files, f"{info}/RECORD")
    return name, found.version, path


def _write(path: Path, files: dict[str, bytes], record: str) -> None:
    rows = [f"{name},sha256={_b64(data)},{len(data)}" for name, data in files.items()]
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in {**files, record: "\n".join([*rows, f"{record},,"]).encode()}.items():
            wheel.writestr(zipfile.ZipInfo(name), data)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
