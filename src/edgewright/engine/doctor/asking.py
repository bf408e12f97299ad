"""What only a program can tell: its own version, and the providers that ONNX Runtime really lists.

Every question is a process of its own that gets a few seconds; all are asked side by side.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edgewright.engine import toolchain

SECONDS = 5.0
"""How long a program may take to answer; ONNX Runtime gets three times as long, its import alone takes a second."""
_ASK_ORT = "import json, onnxruntime as o; print(json.dumps([o.__version__, o.get_available_providers()]))"
_VERSION = re.compile(r"\d+\.\d+[\w.+-]*")


@dataclass(frozen=True, slots=True)
class Program:
    """A program that some work needs.

    Attributes:
        name: For a reader.
        commands: What it may be called; the first that is found counts.
        ask: Arguments that make it tell its version; empty where asking has effects.
        purpose: What needs it.
        install: How to get it.
    """

    name: str
    commands: tuple[str, ...]
    ask: tuple[str, ...]
    purpose: str
    install: str


PROGRAMS = (
    Program(
        "chromium",
        ("chromium", "chromium-browser", "google-chrome"),
        ("--version",),
        "looking at report pages without a screen",
        "apt install chromium",
    ),
    Program("ssh", ("ssh",), ("-V",), "devices at ssh://", "apt install openssh-client"),
    Program("adb", ("adb",), ("--version",), "Android devices at adb://", "apt install adb"),
    Program("g++", ("g++",), ("--version",), "compiling exported microcontroller sources here", "apt install g++"),
    Program(
        "trtexec", ("trtexec", "/usr/src/tensorrt/bin/trtexec"), (), "TensorRT engines by hand", "part of TensorRT"
    ),
    Program("nvpmodel", ("nvpmodel",), (), "power modes of a Jetson", "part of JetPack"),
    Program("nvidia-smi", ("nvidia-smi",), (), "NVIDIA GPUs: driver, clocks, power", "part of the NVIDIA driver"),
)


@dataclass(frozen=True, slots=True)
class ProgramState:
    """One program: where it is and which version, both empty where it is missing."""

    name: str
    path: str
    version: str
    purpose: str
    install: str


@dataclass(frozen=True, slots=True)
class Providers:
    """ONNX Runtime's execution providers.

    Attributes:
        version: Of ONNX Runtime; empty where it is missing.
        names: As it lists them, in its order; each may still fail to load its libraries.
        problem: Why it did not answer.
    """

    version: str = ""
    names: tuple[str, ...] = ()
    problem: str = ""


def programs(wanted: tuple[Program, ...] = PROGRAMS, seconds: float = SECONDS) -> tuple[ProgramState, ...]:
    """Returns every program, asked side by side."""
    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        return tuple(pool.map(lambda program: _program(program, seconds), wanted))


def providers(python: str = sys.executable, seconds: float = 3 * SECONDS) -> Providers:
    """Asks ONNX Runtime in a process of its own; nothing of it is imported here."""
    if not any(toolchain.version(name) for name in ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")):
        return Providers()
    try:
        done = subprocess.run([python, "-c", _ASK_ORT], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return Providers(problem=f"ONNX Runtime did not answer within {seconds:.0f} s")
    except OSError as error:
        return Providers(problem=f"{python}: {error.strerror}")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Providers(problem=f"ONNX Runtime cannot be imported: {said[-1]}")
    version, names = json.loads(done.stdout.strip().splitlines()[-1])
    return Providers(version, tuple(names))


def _program(program: Program, seconds: float) -> ProgramState:
    path = next((found for command in program.commands if (found := shutil.which(command))), "")
    version = _asked([path, *program.ask], seconds) if path and program.ask else ""
    return ProgramState(program.name, path, version, program.purpose, program.install)


def _asked(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search((done.stdout + b" " + done.stderr).decode(errors="replace"))
    return found.group() if found else ""
