"""What a sensor and an alarm are, whatever device they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

TEMPERATURE, CLOCK, GPU_CLOCK, POWER = "temperature", "clock", "gpu_clock", "power"


@dataclass(frozen=True, slots=True)
class Sensor:
    """One figure.

    Attributes:
        kind: One of TEMPERATURE (degrees Celsius), CLOCK, GPU_CLOCK (share of the highest), POWER (watts).
        name: As a reader knows it.
        sources: What is read: paths, or commands.
        value: The figure from the texts of the sources, in order; None where they say nothing.
    """

    kind: str
    name: str
    sources: tuple[str, ...]
    value: Callable[[Sequence[str]], float | None]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that tells whether the device holds itself back.

    Attributes:
        sources: What is read.
        levels: Reason -> a number from the texts of the sources.
        rises: The number only ever rises, and only a rise is an alarm; otherwise any number but zero is one.
        latched: A number that was there from the beginning tells of something since the device started.
    """

    sources: tuple[str, ...]
    levels: Callable[[Sequence[str]], Mapping[str, int]]
    rises: bool = False
    latched: bool = False


@dataclass(frozen=True, slots=True)
class Sensors:
    """Everything found on a device; `notes` tells what is there and cannot be read."""

    sensors: tuple[Sensor, ...]
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sensors or self.alarms)


def number(text: str) -> float | None:
    """Returns the number a sysfs file holds; None where it holds none."""
    try:
        return float(text.split(maxsplit=1)[0])
    except (ValueError, IndexError):
        return None
