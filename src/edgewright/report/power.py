"""A sweep over power modes: a table, two plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.core.power import PowerPoint, PowerSweep
from edgewright.core.telemetry import Telemetry
from edgewright.search import wording

Figure = dict[str, Any]
CAPTIONS = {
    "power-speed": "Samples per second by power mode",
    "power-frugal": "Samples per second and watt by power mode",
}


@dataclass(frozen=True, slots=True)
class PowerRow:
    """One mode in words; `-` where it was not measured."""

    mode: str
    speed: str
    p50: str
    watts: str
    per_watt: str
    heat: str
    throttled: str
    marks: tuple[str, ...]
    reason: str


def power_rows(sweep: PowerSweep) -> tuple[PowerRow, ...]:
    """Returns the modes in the order measured."""
    return tuple(_row(sweep, point) for point in sweep.points)


def _row(sweep: PowerSweep, point: PowerPoint) -> PowerRow:
    marks = {"fastest": sweep.fastest, "most per watt": sweep.best, "was set before": sweep.before}
    found = point.timing.conditions.telemetry if point.timing else None
    return PowerRow(
        mode=point.mode,
        speed=_figure_text(point.throughput, "/s"),
        p50=wording.milliseconds(point.timing.latency_ms.p50) if point.timing else "-",
        watts=_figure_text(point.watts, " W"),
        per_watt=_figure_text(point.per_watt, "/s/W"),
        heat="-" if found is None or found.peak_c is None else f"{found.peak_c:.0f} C",
        throttled=_throttled(found),
        marks=tuple(mark for mark, mode in marks.items() if mode == point.mode),
        reason=point.reason,
    )


def _throttled(found: Telemetry | None) -> str:
    if found is None or found.throttled is None:
        return "-"
    return ", ".join(found.reasons) if found.throttled else "no"


def _figure_text(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g}{unit}" if value < 100 else f"{value:.0f}{unit}"


def headline(sweep: PowerSweep) -> str:
    """Says in one sentence what the sweep found."""
    by = {point.mode: point for point in sweep.points}
    if not sweep.fastest:
        return "No power mode could be measured."
    fast = f"{sweep.fastest} is the fastest power mode ({_figure_text(by[sweep.fastest].throughput, ' samples/s')})"
    if not sweep.best:
        return f"{fast}; no sensor tells the power, so that the most frugal one is not known."
    frugal = _figure_text(by[sweep.best].per_watt, " samples/s per watt")
    if sweep.best == sweep.fastest:
        return f"{fast}, and gives the most for its power, too ({frugal})."
    return f"{fast}; {sweep.best} gives the most for its power ({frugal})."


def power_text(sweep: PowerSweep) -> str:
    """Returns the table for a terminal."""
    head = ("mode", "speed", "p50", "power", "per watt", "hottest", "throttled", "")
    lines = [head] + [
        (r.mode, r.speed, r.p50, r.watts, r.per_watt, r.heat, r.throttled, ", ".join(r.marks) or r.reason)
        for r in power_rows(sweep)
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    shown = [
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip() for line in lines
    ]
    return "\n".join([*shown, "", headline(sweep)])


def power_plots(sweep: PowerSweep) -> dict[str, Figure]:
    """Returns the figures by the keys of `CAPTIONS`; per watt only where power is known."""
    speed = {point.mode: point.throughput for point in sweep.points}
    frugal = {point.mode: point.per_watt for point in sweep.points}
    found = {
        "power-speed": _bars(speed, sweep.fastest, "samples per second"),
        "power-frugal": _bars(frugal, sweep.best, "samples per second and watt"),
    }
    return {key: figure for key, figure in found.items() if figure["data"]}


def _bars(values: dict[str, float | None], best: str, title: str) -> Figure:
    known = {mode: value for mode, value in values.items() if value is not None}
    groups = [("best", "winner", [best]), ("others", "accent", [mode for mode in known if mode != best])]
    return {
        "data": [_trace(name, role, modes, known) for name, role, modes in groups if set(modes) & known.keys()],
        "layout": {
            "barmode": "overlay",
            "xaxis": {"type": "category", "categoryorder": "array", "categoryarray": list(known)},
            "yaxis": {"title": {"text": title}, "rangemode": "tozero"},
            "shapes": [],
            "annotations": [],
        },
    }


def _trace(name: str, role: str, modes: Sequence[str], known: dict[str, float]) -> Figure:
    return {
        "type": "bar",
        "name": name,
        "x": list(modes),
        "y": [known[mode] for mode in modes],
        "marker": {"role": role},
        "width": 0.6,
        "hovertemplate": "%{x}: %{y:.4g}<extra></extra>",
    }
