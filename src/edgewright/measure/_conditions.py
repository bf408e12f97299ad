"""The state of the machine while it is timed."""

from __future__ import annotations

import os
from pathlib import Path

from edgewright.core.measurement import Conditions

SYS = Path("/sys")


def conditions(
    *, threads: int, batch: int, load: float, rounds: int, warmup: int, note: str, root: Path = SYS
) -> Conditions:
    """Returns the conditions, with governor and temperature as the kernel says."""
    return Conditions(threads, batch, governor(root), temperature(root), load, rounds, warmup, note)


def load_average() -> float:
    """Returns the one-minute load average."""
    return round(os.getloadavg()[0], 2)


def governor(root: Path = SYS) -> str | None:
    """Returns the frequency governor of the processors, joined where they differ; None where there is none."""
    files = sorted(root.glob("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    found = dict.fromkeys(filter(None, map(_text, files)))
    return ", ".join(found) or None


def temperature(root: Path = SYS) -> float | None:
    """Returns the hottest sensor in degrees Celsius; None where there is none."""
    files = [*root.glob("class/thermal/thermal_zone*/temp"), *root.glob("class/hwmon/hwmon*/temp*_input")]
    readings = [int(text) / 1000.0 for text in map(_text, files) if text.lstrip("-").isdigit()]
    return max(readings, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
