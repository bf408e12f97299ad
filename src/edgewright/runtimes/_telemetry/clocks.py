"""Clocks: cpufreq of the processor, devfreq of a GPU (Jetson, Adreno, Mali)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from edgewright.runtimes._telemetry.sensors import CLOCK, GPU_CLOCK, Sensor, number
from edgewright.runtimes._telemetry.system import System

_GPU_NAMES = ("gpu", "ga10b", "gv11b", "gp10b", "gm20b", "mali", "kgsl")


def clocks(system: System) -> Iterator[Sensor]:
    """Yields a sensor per frequency domain of the processor and of the GPU.

    The highest frequency is the hardware's, not what a governor or a power mode allows at present.
    """
    folders = system.glob("/sys/devices/system/cpu/cpufreq/policy*")
    folders = folders or system.glob("/sys/devices/system/cpu/cpu[0-9]*/cpufreq")
    highest = system.read([f"{folder}/cpuinfo_max_freq" for folder in folders])
    for folder, text in zip(folders, highest, strict=True):
        yield from _sensor(system, CLOCK, folder, f"{folder}/scaling_cur_freq", number(text))
    for folder in _gpus(system):
        yield from _sensor(system, GPU_CLOCK, folder, f"{folder}/cur_freq", _highest(system, folder))


def _gpus(system: System) -> list[str]:
    found = system.glob("/sys/class/devfreq/*") + system.glob("/sys/class/kgsl/kgsl-3d0/devfreq")
    return [folder for folder in found if any(name in folder.lower() for name in _GPU_NAMES)][:1]


def _highest(system: System, folder: str) -> float | None:
    table, limit = system.read([f"{folder}/available_frequencies", f"{folder}/max_freq"])
    steps = [value for word in table.split() if (value := number(word)) is not None]
    return max(steps, default=None) or number(limit)


def _sensor(system: System, kind: str, folder: str, path: str, highest: float | None) -> Iterator[Sensor]:
    if highest and number(system.read([path])[0]) is not None:
        yield Sensor(kind, folder.rsplit("/", 1)[-1], (path,), partial(_share, highest))


def _share(highest: float, texts: Sequence[str]) -> float | None:
    now = number(texts[0])
    return None if now is None else now / highest
