"""Power: the rails of a Jetson, a board's meter, RAPL, the regulator of a Raspberry Pi 5, a battery; one of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgewright.runtimes._telemetry.sensors import POWER, Sensor, number
from edgewright.runtimes._telemetry.system import COMMAND, System

PMIC = COMMAND + "vcgencmd pmic_read_adc"
_WHOLE = ("VDD_IN", "POM_5V_IN", "5V_IN", "VIN")
"""Rails that feed the whole module, where one is metered (Orin NX and Nano, TX2; Nano)."""
_PART_OF_ANOTHER = ("VDDQ_VDD2_1V8AO", "NC", "sum of shunt voltages")
"""Fed from `VIN_SYS_5V0` on AGX Orin, so that adding it would count it twice (NVIDIA, Jetson Linux developer guide)."""
_METERS = ("ina2", "ina3221", "ina7")


def power(system: System) -> Iterator[Sensor | str]:
    """Yields the sensor of the whole device's power, the most direct there is, or notes on why there is none."""
    for find in (_hwmon_rails, _iio_rails, _rapl, _pmic, _battery):
        found = find(system)
        if found is not None:
            yield found
        if isinstance(found, Sensor):
            return


@dataclass(frozen=True, slots=True)
class _Rail:
    name: str
    sources: tuple[str, ...]
    """Millivolts and milliamperes, or milliwatts alone."""


def _hwmon_rails(system: System) -> Sensor | None:
    rails = []
    for folder in system.glob("/sys/class/hwmon/hwmon*"):
        (driver,) = system.read([f"{folder}/name"])
        if driver.startswith(_METERS):
            rails += [_Rail(*rail) for rail in _channels(system, folder, driver)]
    return _sum_of(system, rails)


def _channels(system: System, folder: str, driver: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for current in system.glob(f"{folder}/curr*_input"):
        index = re.sub(r"\D", "", current.rsplit("/", 1)[1])
        (label,) = system.read([f"{folder}/in{index}_label"])
        yield label or driver, (f"{folder}/in{index}_input", current)


def _iio_rails(system: System) -> Sensor | None:
    rails = []
    for path in system.glob("/sys/bus/i2c/drivers/ina3221x/*/iio:device*/in_power*_input"):
        folder, _, file = path.rpartition("/")
        index = re.sub(r"\D", "", file)
        (name,) = system.read([f"{folder}/rail_name_{index}"])
        rails.append(_Rail(name or f"rail {index}", (path,)))
    return _sum_of(system, rails)


def _sum_of(system: System, rails: Sequence[_Rail]) -> Sensor | None:
    readable = [rail for rail in rails if all(system.read(rail.sources)) and rail.name not in _PART_OF_ANOTHER]
    whole = [rail for rail in readable if rail.name in _WHOLE]
    chosen = whole or readable
    if not chosen:
        return None
    names = " + ".join(rail.name for rail in chosen)
    sources = tuple(source for rail in chosen for source in rail.sources)
    pairs = len(chosen[0].sources) == 2
    return Sensor(POWER, f"{names} (whole module)" if whole else names, sources, _from_pairs if pairs else _from_mw)


def _from_pairs(texts: Sequence[str]) -> float | None:
    values = [number(text) for text in texts]
    if None in values:
        return None
    known = [value for value in values if value is not None]
    return sum(volts * amperes for volts, amperes in zip(known[::2], known[1::2], strict=True)) / 1e6


def _from_mw(texts: Sequence[str]) -> float | None:
    values = [number(text) for text in texts]
    return None if None in values else sum(value for value in values if value is not None) / 1000.0


def _rapl(system: System) -> Sensor | str | None:
    zones = [z for z in system.glob("/sys/class/powercap/intel-rapl:*") if z.count(":") == 1]
    if not zones:
        return None
    counts = tuple(f"{zone}/energy_uj" for zone in zones)
    wraps = [number(text) for text in system.read([f"{zone}/max_energy_range_uj" for zone in zones])]
    if not all(system.read(counts)) or None in wraps:
        return "the RAPL counter may only be read by root: chmod a+r /sys/class/powercap/*/energy_uj"
    meter = RisingEnergy(tuple(wrap for wrap in wraps if wrap is not None))
    return Sensor(POWER, "RAPL (processor package)", counts, meter)


@dataclass(slots=True)
class RisingEnergy:
    """Watts from counts of microjoules: those since the last reading; None for the first."""

    wraps: tuple[float, ...]
    clock: Callable[[], float] = time.monotonic
    _last: tuple[float, list[float]] | None = field(default=None)

    def __call__(self, texts: Sequence[str]) -> float | None:
        now, counts = self.clock(), [value for text in texts if (value := number(text)) is not None]
        before, self._last = self._last, (now, counts)
        if before is None or len(counts) != len(self.wraps) or len(before[1]) != len(counts) or now <= before[0]:
            return None
        pairs = zip(before[1], counts, self.wraps, strict=True)
        used = sum(b - a if b >= a else b - a + wrap for a, b, wrap in pairs)
        return used / 1e6 / (now - before[0])


def _pmic(system: System) -> Sensor | None:
    if not system.has("vcgencmd") or pmic_watts(system.read([PMIC])) is None:
        return None
    return Sensor(POWER, "rails of the power regulator (without USB)", (PMIC,), pmic_watts)


def pmic_watts(texts: Sequence[str]) -> float | None:
    """Sums volts times amperes over the rails that `vcgencmd pmic_read_adc` gives both of (Raspberry Pi 5)."""
    amperes = dict(re.findall(r"(\S+)_A current\(\d+\)=([\d.]+)A", texts[0]))
    volts = dict(re.findall(r"(\S+)_V volt\(\d+\)=([\d.]+)V", texts[0]))
    both = amperes.keys() & volts.keys()
    return sum(float(amperes[rail]) * float(volts[rail]) for rail in both) if both else None


def _battery(system: System) -> Sensor | str | None:
    folders = system.glob("/sys/class/power_supply/*")
    kinds = system.read([f"{folder}/type" for folder in folders])
    for folder in (f for f, kind in zip(folders, kinds, strict=True) if kind == "Battery"):
        sources = tuple(f"{folder}/{name}" for name in ("status", "current_now", "voltage_now", "power_now"))
        texts = system.read(sources)
        if battery_watts(texts) is not None:
            return Sensor(POWER, "battery (whole device, screen included)", sources, battery_watts)
        if texts[0] and texts[0] != "Discharging":
            return f"the battery is {texts[0].lower()}: unplug the device to read the power it takes"
    return None


def battery_watts(texts: Sequence[str]) -> float | None:
    """Returns what a discharging battery gives; drivers differ in the sign of the current.

    Args:
        texts: Of `status`, `current_now` (microamperes), `voltage_now` (microvolts) and `power_now` (microwatts).
    """
    status, current, voltage, watts = texts[0], *map(number, texts[1:])
    if status != "Discharging":
        return None
    if current is not None and voltage is not None:
        return abs(current) * voltage / 1e12
    return None if watts is None else abs(watts) / 1e6
