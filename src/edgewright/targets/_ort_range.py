"""Which versions of ONNX Runtime can run a file: those that read its operators and its file format.

A file uses standard operators of one opset, and ONNX Runtime keeps reading older ones; so what it needs decides, not
what it was made with. That it also gives the same decisions is what the golden pairs of a bundle prove on the device.
"""

from __future__ import annotations

from collections.abc import Mapping

STANDARD = frozenset({"", "ai.onnx"})

READS = (("1.20", 21, 10), ("1.22", 22, 10), ("1.23", 23, 11))
"""Version, newest opset and newest file version (IR) that it loads: tried with the released wheels. 1.20 is the oldest
that Edgewright installs; Python 3.10 ends at 1.23."""


def runtime_range(version: str, opsets: Mapping[str, int], ir_version: int, *, provider: str = "cpu") -> str:
    """Returns the versions expected to run a file, as a PEP 440 specifier.

    Args:
        version: Of the ONNX Runtime that proved it.
        opsets: Domain -> version, as the file imports them. Operators outside the standard change their meaning with
            releases, so a file that imports others wants at least `version`.
        ir_version: Of the file.
        provider: The one that runs it: which nodes another than the CPU's takes changes with releases.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    opset = max((number for domain, number in opsets.items() if domain in STANDARD), default=0)
    least = f"{major}.{minor}"
    if STANDARD.issuperset(opsets) and provider == "cpu":
        able = [known for known, newest, file in READS if opset <= newest and ir_version <= file]
        least = min([least, *able], key=lambda known: tuple(map(int, known.split("."))))
    return f">={least},<{major + 1}"
