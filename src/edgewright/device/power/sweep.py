"""Measures in one power mode after another, and in one alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgewright.core.measurement import Timing
from edgewright.core.power import PowerPoint, PowerSweep
from edgewright.device.power.keeping import keep
from edgewright.device.power.kinds import find_modes
from edgewright.device.power.machine import Machine
from edgewright.device.power.modes import PowerModes, chosen
from edgewright.errors import ConnectionLost, StepFailed

SETTLE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Known:
    """The power modes of a device, as it tells them: their kind, their names, and the one it is in."""

    kind: str
    names: tuple[str, ...]
    current: str


def known(modes: PowerModes | None = None) -> Known:
    """Returns the power modes of this device.

    Raises:
        UsageError: It has none.
    """
    found = modes or find_modes()
    return Known(found.kind, found.names(), found.current())


@contextmanager
def in_mode(name: str, machine: Machine | None = None, settle: float = SETTLE_SECONDS) -> Iterator[str]:
    """Holds this device in a power mode, and leaves it in the one it was in; an empty name changes nothing.

    Yields the name of the mode as the device writes it.

    Args:
        name: As `chosen` takes it.
        machine: Where modes are looked for; this machine without it.
        settle: Seconds to wait after a change, until clocks and voltages stand.

    Raises:
        UsageError: It has no such mode.
        StepFailed: It does not take it on, or the first one cannot be put back.
    """
    if not name:
        yield ""
        return
    modes = find_modes(machine)
    (mode,) = chosen([name], modes.names(), modes.kind)
    with keep(modes, machine=machine):
        modes.choose(mode)
        time.sleep(settle)
        yield mode


def sweep(
    modes: Known,
    names: Sequence[str],
    measure: Callable[[str], Timing],
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> PowerSweep:
    """Measures in every mode. One that the device does not take on (it needs a restart, or root) keeps the reason.

    Args:
        modes: Of the device.
        names: As `chosen` returns them.
        measure: Measures in a mode, and leaves the device as it was.
        progress: Called before every mode.

    Raises:
        EdgewrightError: As `measure` raises it; a StepFailed is the reason of its mode, a lost connection is none.
    """
    points = []
    for index, name in enumerate(names):
        progress(index / len(names), f"power mode {name}")
        try:
            points.append(_point(name, measure(name)))
        except ConnectionLost:
            raise
        except StepFailed as error:
            points.append(PowerPoint(name, reason=f"{error.message} ({error.hint})"))
    progress(1.0, f"{len(names)} power modes")
    return PowerSweep(modes.kind, tuple(points), _fastest(points), _best(points), modes.current)


def _point(name: str, timing: Timing) -> PowerPoint:
    conditions, watched = timing.conditions, timing.conditions.telemetry
    if watched is not None:
        timing = replace(timing, conditions=replace(conditions, telemetry=replace(watched, power_mode=name)))
    joules = None if not timing.energy_mj else timing.energy_mj / 1000.0
    return PowerPoint(name, timing, None if joules is None else conditions.batch / joules)


def _fastest(points: Sequence[PowerPoint]) -> str:
    found = [(point.throughput, point.mode) for point in points if point.throughput is not None]
    return max(found)[1] if found else ""


def _best(points: Sequence[PowerPoint]) -> str:
    found = [(point.per_watt, point.mode) for point in points if point.per_watt is not None]
    return max(found)[1] if found else ""
