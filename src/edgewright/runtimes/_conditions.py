"""The state of this machine at the moment: what a figure of time depends on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SYS = Path("/sys")


def current(root: Path = SYS) -> dict[str, Any]:
    """Returns governor, temperature and load as plain values; None where the system does not say."""
    return {"governor": governor(root), "temperature_c": temperature(root), "load": load_average()}


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
