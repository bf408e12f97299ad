"""Measures in one power mode after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from edgewright.core.measurement import Timing
from edgewright.core.power import PowerPoint, PowerSweep
from edgewright.device.power.modes import PowerModes
from edgewright.errors import StepFailed

SETTLE_SECONDS = 3.0


def sweep(
    modes: PowerModes,
    names: Sequence[str],
    measure: Callable[[], Timing],
    *,
    progress: Callable[[float, str], None] = lambda share, text: None,
    settle: Callable[[], None] = lambda: time.sleep(SETTLE_SECONDS),
) -> PowerSweep:
    """Measures in every mode; call it inside `keep`, which puts the first one back.

    A mode that the device does not take on (it needs a restart, or root) is reported with the reason.

    Args:
        modes: Of the device.
        names: As `chosen` returns them.
        measure: Measures once.
        progress: Called before every mode.
        settle: Waits after a change, until clocks and voltages stand.

    Raises:
        EdgewrightError: As `measure` raises it.
    """
    before, points = modes.current(), []
    for index, name in enumerate(names):
        progress(index / len(names), f"power mode {name}")
        try:
            modes.choose(name)
        except StepFailed as error:
            points.append(PowerPoint(name, reason=f"{error.message} ({error.hint})"))
            continue
        settle()
        points.append(_point(name, measure()))
    progress(1.0, f"{len(names)} power modes")
    return PowerSweep(modes.kind, tuple(points), _fastest(points), _best(points), before)


def _point(name: str, timing: Timing) -> PowerPoint:
    conditions, watched = timing.conditions, timing.conditions.telemetry
    if watched is not None:
        timing = replace(timing, conditions=replace(conditions, telemetry=replace(watched, power_mode=name)))
    joules = None if not timing.energy_mj else timing.energy_mj / 1000.0
    return PowerPoint(name, timing, None if joules is None else conditions.batch / joules)


def _fastest(points: Sequence[PowerPoint]) -> str:
    known = [(point.throughput, point.mode) for point in points if point.throughput is not None]
    return max(known)[1] if known else ""


def _best(points: Sequence[PowerPoint]) -> str:
    known = [(point.per_watt, point.mode) for point in points if point.per_watt is not None]
    return max(known)[1] if known else ""
