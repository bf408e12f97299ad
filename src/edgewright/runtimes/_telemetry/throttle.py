"""Whether the device holds itself back, and why: Raspberry Pi, Jetson, Android, x86, any Linux that cools by clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from edgewright.runtimes._telemetry.sensors import Alarm, number
from edgewright.runtimes._telemetry.system import COMMAND, System

VCGENCMD = COMMAND + "vcgencmd get_throttled"
DUMPSYS = COMMAND + "dumpsys thermalservice"
_PI_FILE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PI_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled by the firmware",
    3: "soft temperature limit",
}
"""Bit -> what it says of now; 16 higher, of any moment since the device started (Raspberry Pi, `vcgencmd`)."""
_SINCE_BOOT = 16
ANDROID_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""`PowerManager.THERMAL_STATUS_*` by number."""
_COOLS_BY_SLOWING = re.compile(r"cpufreq|devfreq|processor|cpu-|gpu-|^cpu|^gpu", re.IGNORECASE)
_X86 = {"core_throttle_count": "a core reached its temperature limit",
        "package_throttle_count": "the processor reached its temperature limit"}  # fmt: skip


def alarms(system: System) -> Iterator[Alarm]:
    """Yields what this device has to say about throttling."""
    yield from _raspberry_pi(system)
    yield from _over_current(system)
    yield from _cooling(system)
    yield from _x86(system)
    if system.has("dumpsys"):
        yield Alarm((DUMPSYS,), lambda texts: android_status(texts[0]))


def _raspberry_pi(system: System) -> Iterator[Alarm]:
    source = _PI_FILE if system.read([_PI_FILE])[0] else VCGENCMD if system.has("vcgencmd") else ""
    if source and pi_bits(system.read([source])[0]) is not None:
        yield Alarm((source,), partial(_pi_levels, 0))
        yield Alarm((source,), partial(_pi_levels, _SINCE_BOOT), rises=True, latched=True)


def pi_bits(text: str) -> int | None:
    """Reads `throttled=0x50005`, as vcgencmd prints it, or the bare hexadecimal number of the firmware's file."""
    try:
        return int(text.rpartition("=")[2].strip(), 16)
    except ValueError:
        return None


def _pi_levels(shift: int, texts: Sequence[str]) -> Mapping[str, int]:
    bits = pi_bits(texts[0]) or 0
    return {reason: bits >> bit + shift & 1 for bit, reason in PI_BITS.items()}


def _over_current(system: System) -> Iterator[Alarm]:
    """Yields the over-current counters of a Jetson (`soctherm_oc`), each of which slows its clocks."""
    for path in system.glob("/sys/class/hwmon/hwmon*/oc*_event_cnt"):
        name = path.rsplit("/", 1)[1].removesuffix("_event_cnt")
        (enabled,) = system.read([path.replace("_event_cnt", "_throt_en")])
        if enabled != "0":
            yield Alarm((path,), partial(_count, f"over-current event {name.upper()}"), rises=True)


def _cooling(system: System) -> Iterator[Alarm]:
    """Yields the cooling devices that work by lowering a clock; fans and alerts are left out."""
    folders = system.glob("/sys/class/thermal/cooling_device*")
    kinds = system.read([f"{folder}/type" for folder in folders])
    for folder, kind in zip(folders, kinds, strict=True):
        if _COOLS_BY_SLOWING.search(kind):
            yield Alarm((f"{folder}/cur_state",), partial(_count, f"cooled by a lower clock ({kind})"))


def _x86(system: System) -> Iterator[Alarm]:
    for file, reason in _X86.items():
        paths = tuple(system.glob(f"/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/{file}"))
        if paths:
            yield Alarm(paths, partial(_count, reason), rises=True)


def _count(reason: str, texts: Sequence[str]) -> Mapping[str, int]:
    return {reason: sum(max(0, int(number(text) or 0)) for text in texts)}


def android_status(text: str) -> Mapping[str, int]:
    """Reads the `Thermal Status: 2` of `dumpsys thermalservice`: 0 is none, anything else slows the phone down."""
    found = re.search(r"^\s*Thermal Status:\s*(\d+)", text, re.MULTILINE)
    level = int(found.group(1)) if found else 0
    word = ANDROID_STATUS[min(level, len(ANDROID_STATUS) - 1)]
    return {f"thermal status {word}": level} if level else {}


def android_temperatures(text: str) -> dict[str, float]:
    """Reads the temperatures of `dumpsys thermalservice`: those read now, else the last ones known, by sensor name."""
    current = text.partition("Current temperatures from HAL:")[2].partition("Current cooling devices")[0]
    pairs = re.findall(r"Temperature\{mValue=([-\d.]+),.*?mName=([^,}]+)", current or text)
    return {name: float(value) for value, name in pairs}
