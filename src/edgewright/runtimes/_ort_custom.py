"""Libraries of custom operators: native code that ONNX Runtime loads into the process.

A library is built for one system and one instruction set. It lies in a folder named after them, so that a bundle can
bring one per kind of machine, and is read before it is loaded: what ONNX Runtime says of a library for another machine
helps nobody.
"""

from __future__ import annotations

import platform
import struct
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgewright.errors import Corrupt, StepFailed, UsageError

FOLDER = "custom_operators"
LIBRARIES = "edgewright.custom_operators"
"""Session entry of our own: paths of the libraries relative to the model's file, separated by line ends."""

_ELF = {0x3E: "x86_64", 0xB7: "aarch64", 0x28: "arm", 0x03: "x86", 0xF3: "riscv64"}
_PE = {0x8664: "x86_64", 0xAA64: "aarch64", 0x014C: "x86"}
_MACH = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_SAME = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "arm", "i686": "x86"}
_SYSTEMS = {"win32": "windows", "darwin": "macos"}
_HEADER_BYTES = 4096


def kind_of(file: Path) -> str:
    """Returns `system-machine` that a native library is built for, e.g. `linux-aarch64`; empty for any other file.

    Reads the header of ELF, PE and Mach-O files (the first of several in a universal one).
    """
    with file.open("rb") as opened:
        return _kind(opened.read(_HEADER_BYTES))


def _kind(head: bytes) -> str:
    if head[:4] == b"\x7fELF" and len(head) >= 20:
        order = "<" if head[5] == 1 else ">"
        return f"linux-{_ELF.get(struct.unpack_from(order + 'H', head, 18)[0], 'unknown')}"
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe") and len(head) >= 8:
        return f"macos-{_MACH.get(struct.unpack_from('<I', head, 4)[0], 'unknown')}"
    if head[:4] == b"\xca\xfe\xba\xbe" and len(head) >= 12 and struct.unpack_from(">I", head, 4)[0] < 8:
        return f"macos-{_MACH.get(struct.unpack_from('>I', head, 8)[0], 'unknown')}"
    if head[:2] == b"MZ" and len(head) >= 64:
        start = struct.unpack_from("<I", head, 0x3C)[0]
        if head[start : start + 4] == b"PE\0\0" and len(head) >= start + 6:
            return f"windows-{_PE.get(struct.unpack_from('<H', head, start + 4)[0], 'unknown')}"
    return ""


def here() -> str:
    """Returns `system-machine` of this process, spelled as `kind_of` does."""
    machine = platform.machine().lower()
    return f"{_SYSTEMS.get(sys.platform, sys.platform)}-{_SAME.get(machine, machine)}"


def place_of(library: Path) -> str:
    """Returns where a library lies beside a model, e.g. `custom_operators/linux-x86_64/libcustom.so`.

    Raises:
        UsageError: There is no such file, or it is no native library.
    """
    if not library.is_file():
        raise UsageError(f"{library}: no such library of custom operators", hint="correct the path")
    kind = kind_of(library)
    if not kind:
        raise UsageError(
            f"{library}: not a native library (ELF, PE or Mach-O)", hint="name the .so, .dll or .dylib itself"
        )
    return f"{FOLDER}/{kind}/{library.name}"


def register(options: Any, libraries: Iterable[Path]) -> None:
    """Loads the libraries made for this machine into a session's options.

    Args:
        options: `SessionOptions` of ONNX Runtime.
        libraries: Files; those of one name do the same on different machines.

    Raises:
        StepFailed: A library exists for other machines only, or ONNX Runtime cannot load it.
    """
    by_name: dict[str, dict[str, Path]] = {}
    for library in libraries:
        by_name.setdefault(library.stem, {})[kind_of(library)] = library
    for name, kinds in by_name.items():
        if here() not in kinds:
            raise StepFailed(
                f"the custom operators of {name} are built for {', '.join(sorted(kinds))}, this machine is {here()}",
                hint=f"build the library for {here()} and add it to custom_operators in [model]",
            )
        _load(options, kinds[here()])


def _load(options: Any, library: Path) -> None:
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # its exceptions share no public base class
        raise StepFailed(
            f"ONNX Runtime cannot load the custom operators of {library.name}: {' '.join(str(error).split())[:300]}",
            hint="it needs the function RegisterCustomOps, all that it links to, and no newer ONNX Runtime than this",
        ) from error


def libraries_of(entries: Mapping[str, str], folder: Path) -> list[Path]:
    """Returns the libraries that session entries name, as files of the artifact in `folder`.

    Raises:
        Corrupt: A path leaves the folder, or a file is missing.
    """
    names = [name for name in entries.get(LIBRARIES, "").split("\n") if name]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] != (FOLDER,):
            raise Corrupt(f'the library "{name}" leaves the artifact folder', hint="do not trust this artifact")
        if not (folder / name).is_file():
            raise Corrupt(f"{folder}: the library {name} is missing", hint="compile or unpack it again")
    return [folder / name for name in names]
