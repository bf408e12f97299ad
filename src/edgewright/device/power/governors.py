"""Frequency governors of the processor as power modes: `performance`, `powersave` (Linux, cpufreq)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.device.power.machine import Machine
from edgewright.errors import StepFailed

_POLICIES = "sys/devices/system/cpu/cpufreq"
_BY_HAND = ("userspace",)
"""Holds whatever frequency somebody writes: no mode by itself."""


@dataclass(frozen=True, slots=True)
class Governors:
    """See `edgewright.device.power.modes.PowerModes`; a mode is one governor for all cores."""

    kind: ClassVar[str] = "governor"

    machine: Machine

    def names(self) -> tuple[str, ...]:
        """See `PowerModes`: the governors that every core has."""
        offered = [_words(file) for file in self._files("scaling_available_governors")]
        common = [name for name in offered[0] if all(name in other for other in offered)] if offered else []
        return tuple(name for name in common if name not in _BY_HAND)

    def current(self) -> str:
        """See `PowerModes`; cores that differ are named in turn."""
        return ", ".join(dict.fromkeys(self.snapshot().values()))

    def choose(self, name: str) -> None:
        """See `PowerModes`."""
        for file in self._files("scaling_governor"):
            self._write(file, name)

    def snapshot(self) -> Mapping[str, str]:
        """See `PowerModes`: the governor of every frequency domain."""
        return {file.parent.name: " ".join(_words(file)) for file in self._files("scaling_governor")}

    def put_back(self, snapshot: Mapping[str, str]) -> None:
        """See `PowerModes`."""
        for file in self._files("scaling_governor"):
            if file.parent.name in snapshot:
                self._write(file, snapshot[file.parent.name])

    def _files(self, name: str) -> list[Path]:
        return sorted((self.machine.root / _POLICIES).glob(f"policy*/{name}"))

    def _write(self, file: Path, name: str) -> None:
        try:
            if os.access(file, os.W_OK):
                file.write_text(name, encoding="ascii")
            else:
                command = ["sudo", "-n", "tee", str(file)]
                subprocess.run(command, input=name, text=True, capture_output=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as error:
            raise StepFailed(
                f'governor "{name}" cannot be set in {file}: {error}',
                hint="run as root, or allow `tee` to this user without a password (sudo visudo)",
            ) from error


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []
