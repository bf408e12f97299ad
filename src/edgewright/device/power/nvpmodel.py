"""The power modes of a Jetson: `nvpmodel` and `jetson_clocks` (NVIDIA, Jetson Linux developer guide)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.device.power.machine import Machine
from edgewright.errors import StepFailed

CONFIG = "/etc/nvpmodel.conf"
_MODEL = re.compile(r"^\s*<\s*POWER_MODEL\s+(?=[^>]*\bID=(\d+))(?=[^>]*\bNAME=([^\s>]+))", re.MULTILINE)


def parse_modes(text: str) -> dict[str, int]:
    """Reads name -> number from the text of `/etc/nvpmodel.conf`, in its order."""
    return {name: int(number) for number, name in _MODEL.findall(text)}


def parse_query(text: str) -> int | None:
    """Reads the number of the present mode from what `nvpmodel -q` prints: its last line that is a number."""
    numbers = [line.strip() for line in text.splitlines() if line.strip().isdigit()]
    return int(numbers[-1]) if numbers else None


@dataclass(frozen=True, slots=True)
class Nvpmodel:
    """See `edgewright.device.power.modes.PowerModes`.

    Attributes:
        machine: Where the programs and the configuration are.
        fixed_clocks: Run `jetson_clocks` in every mode: clocks stand at the highest that it allows.
    """

    kind: ClassVar[str] = "nvpmodel"

    machine: Machine
    fixed_clocks: bool = False

    def names(self) -> tuple[str, ...]:
        """See `PowerModes`."""
        return tuple(self._modes())

    def current(self) -> str:
        """See `PowerModes`."""
        number = parse_query(self._query())
        names = {value: name for name, value in self._modes().items()}
        if number not in names:
            raise StepFailed(
                f"nvpmodel -q tells no mode of {CONFIG}", hint="run `nvpmodel -q` on the device to see why"
            )
        return names[number]

    def choose(self, name: str) -> None:
        """See `PowerModes`. A mode that needs a restart of the device is refused: it is never restarted from here."""
        if name != self.current():
            said = self.machine.run("nvpmodel", "-m", str(self._modes()[name]), root=True)
            self._arrived(name, said)
        if self.fixed_clocks:
            self.machine.run("jetson_clocks", root=True)

    def _arrived(self, name: str, said: str) -> None:
        if self.current() == name:
            return
        if "reboot" in said.lower():
            reason, hint = f'power mode "{name}" needs a restart of the device', f"sudo nvpmodel -m {name}; restart"
        else:
            reason, hint = f'the device did not take on power mode "{name}": {said.strip()[-300:]}', "run it by hand"
        raise StepFailed(reason, hint=hint)

    def snapshot(self) -> Mapping[str, str]:
        """See `PowerModes`; with fixed clocks, those of now are stored by `jetson_clocks` in a file."""
        found = {"mode": self.current()}
        if self.fixed_clocks:
            file = Path(tempfile.mkdtemp(prefix="edgewright-clocks-")) / "clocks"
            self.machine.run("jetson_clocks", "--store", str(file), root=True)
            found["clocks"] = str(file)
        return found

    def put_back(self, snapshot: Mapping[str, str]) -> None:
        """See `PowerModes`."""
        plain = Nvpmodel(self.machine)
        if snapshot["mode"] not in plain.names():
            raise StepFailed(f"{CONFIG} has no mode {snapshot['mode']} any more", hint="choose one with nvpmodel -m")
        plain.choose(snapshot["mode"])
        if "clocks" in snapshot:
            self.machine.run("jetson_clocks", "--restore", snapshot["clocks"], root=True)

    def _query(self) -> str:
        try:
            return self.machine.run("nvpmodel", "-q")
        except StepFailed:  # older releases tell the mode to root alone
            return self.machine.run("nvpmodel", "-q", root=True)

    def _modes(self) -> dict[str, int]:
        return parse_modes(self.machine.file(CONFIG).read_text(encoding="utf-8", errors="replace"))
