"""Versions that do not work together, met by running: data, and one pure function per kind of trap."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Versions = Mapping[str, str]
"""Distribution, normalised -> installed version."""
Requirements = Mapping[str, tuple[str, ...]]
CHECKED = (
    *("onnx", "onnx-ir", "onnxscript", "onnxruntime", "openvino", "torch", "torchao", "executorch", "coremltools"),
    *("ai-edge-litert", "tflite-micro", "ethos-u-vela", "nncf", "numpy", "opencv-python-headless"),
)
"""Distributions whose own requirements are checked."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Something that is known to go wrong with what is installed.

    Attributes:
        name: For a reader and for programs.
        what: What goes wrong.
        fix: The line that mends it.
    """

    name: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Known:
    trap: Trap
    met: Callable[[Versions], bool]


def installed() -> dict[str, str]:
    """Returns every installed distribution and its version, from metadata."""
    found = ((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())
    return {_normalised(name): version for name, version in found if name}


def traps(versions: Versions) -> tuple[Trap, ...]:
    """Returns the traps that these versions are in."""
    return tuple(known.trap for known in KNOWN if known.met(versions))


def unmet(requirements: Requirements, versions: Versions) -> tuple[Trap, ...]:
    """Returns a trap for every requirement of an installed distribution that is not met.

    Args:
        requirements: Distribution -> what it requires, as its metadata says (PEP 508).
        versions: What is installed.
    """
    from packaging.requirements import Requirement

    found = []
    for owner, lines in requirements.items():
        for line in lines:
            wanted = Requirement(line)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            got = versions.get(_normalised(wanted.name), "")
            if not got or not wanted.specifier.contains(got, prereleases=True):
                what = f"{owner} {versions[owner]} requires {wanted.name}{wanted.specifier}, found {got or 'none'}"
                found.append(Trap("requirement", what, f'pip install "{wanted.name}{wanted.specifier}"'))
    return tuple(found)


def required(names: Iterable[str] = CHECKED) -> dict[str, tuple[str, ...]]:
    """Returns what the installed ones of some distributions require, from metadata."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = tuple(importlib.metadata.requires(name) or ())
    return found


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _between(versions: Versions, name: str, low: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return name in versions and low <= _numbers(versions[name]) < high


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _several(*names: str) -> Callable[[Versions], bool]:
    return lambda versions: sum(name in versions for name in names) > 1


def _numpy_with_coremltools(versions: Versions) -> bool:
    return "coremltools" in versions and _between(versions, "numpy", (2, 3), (2, 4))


def _executorch_with_torch(versions: Versions) -> bool:
    return _between(versions, "executorch", (1, 5), (1, 6)) and _between(versions, "torch", (0,), (2, 13))


KNOWN = (
    _Known(
        Trap(
            "numpy-coremltools",
            "with numpy 2.3 coremltools' prune_weights silently does nothing on large FP16 layers",
            'pip install "numpy>=2.4"',
        ),
        _numpy_with_coremltools,
    ),
    _Known(
        Trap(
            "two-onnxruntimes",
            "several builds of ONNX Runtime are installed: they share one folder, and which one runs is chance",
            "pip uninstall -y onnxruntime onnxruntime-gpu onnxruntime-openvino, then install the one you want",
        ),
        _several("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn"),
    ),
    _Known(
        Trap(
            "two-opencvs",
            "several builds of OpenCV are installed: they share one folder, and removing one breaks the others",
            "pip uninstall -y opencv-python opencv-contrib-python, then pip install --force-reinstall "
            "opencv-python-headless",
        ),
        _several("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ),
    _Known(
        Trap(
            "opencv-gui",
            "this build of OpenCV needs libGL and X11, which devices and containers lack",
            "pip uninstall -y opencv-python opencv-contrib-python && pip install opencv-python-headless",
        ),
        lambda versions: (
            ("opencv-python" in versions or "opencv-contrib-python" in versions)
            and not _several("opencv-python", "opencv-python-headless")(versions)
        ),
    ),
    _Known(
        Trap(
            "executorch-torch",
            "ExecuTorch 1.5 is built against PyTorch 2.13 and does not load beside an older one",
            'pip install "edgewright[executorch]" --force-reinstall, which pins both',
        ),
        _executorch_with_torch,
    ),
    _Known(
        Trap(
            "old-onnxruntime",
            "ONNX Runtime before 1.20 cannot read models of opset 21, which 16-bit and 4-bit quantisers need",
            'pip install --upgrade "onnxruntime>=1.20"',
        ),
        lambda versions: _between(versions, "onnxruntime", (0,), (1, 20)),
    ),
)
