"""Temperatures: thermal zones and hwmon sensors of Linux and Android."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgewright.runtimes._telemetry.sensors import TEMPERATURE, Sensor, number
from edgewright.runtimes._telemetry.system import System

_LOWEST, _HIGHEST = -40.0, 130.0
_NOT_THE_CHIP = ("PMIC-Die", "nvme", "drivetemp", "iwlwifi", "spd5118", "jc42", "r8169", "mt79", "ucsi", "BAT")
"""Zones and drivers that say nothing about the chip; `PMIC-Die` of older Jetsons always reads 100 degrees."""


def temperatures(system: System) -> Iterator[Sensor]:
    """Yields the thermal zones by their type, and the sensors of hwmon drivers by driver and label."""
    for name, path in [*_zones(system), *_monitors(system)]:
        if not name.startswith(_NOT_THE_CHIP) and celsius(system.read([path])) is not None:
            yield Sensor(TEMPERATURE, name, (path,), celsius)


def celsius(texts: Sequence[str]) -> float | None:
    """Reads millidegrees (a few drivers give whole degrees); None outside what a running chip can have."""
    value = number(texts[0])
    if value is None:
        return None
    degrees = value / 1000.0 if abs(value) >= 200 else value
    return degrees if _LOWEST < degrees < _HIGHEST and degrees != 0 else None


def _zones(system: System) -> list[tuple[str, str]]:
    folders = system.glob("/sys/class/thermal/thermal_zone*")
    kinds = system.read([f"{folder}/type" for folder in folders])
    return [(kind or "zone", f"{folder}/temp") for kind, folder in zip(kinds, folders, strict=True)]


def _monitors(system: System) -> list[tuple[str, str]]:
    paths = system.glob("/sys/class/hwmon/hwmon*/temp*_input")
    drivers = system.read([f"{path.rpartition('/')[0]}/name" for path in paths])
    labels = system.read([path.removesuffix("_input") + "_label" for path in paths])
    found = zip(drivers, labels, paths, strict=True)
    return [(f"{driver} {label}".strip() or "hwmon", path) for driver, label, path in found]
