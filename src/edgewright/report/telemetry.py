"""What the device did while it was measured, in words and as plots over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgewright.core.telemetry import Telemetry

Figure = dict[str, Any]
CAPTIONS = {"heat": "Temperature during the measurement", "clocks": "Clocks during the measurement",
            "watts": "Power during the measurement"}  # fmt: skip


def words(found: Telemetry | None) -> str:
    """Says in one line what was seen; empty where the device has no sensors."""
    if found is None:
        return ""
    parts = [_mode(found), _heat(found), _clock("clock", found.clock_mean, found.clock_least)]
    parts += [_clock("GPU clock", found.gpu_clock_mean, found.gpu_clock_least), _throttled(found), _power(found)]
    return ", ".join(part for part in [*parts, *found.notes] if part)


def _mode(found: Telemetry) -> str:
    return f"power mode {found.power_mode}" if found.power_mode else ""


def _heat(found: Telemetry) -> str:
    if found.start_c is None or found.peak_c is None:
        return ""
    return f"{found.start_c:.0f} C at the start, {found.peak_c:.0f} C at most ({found.sensor})"


def _clock(name: str, mean: float | None, least: float | None) -> str:
    if mean is None or least is None:
        return ""
    return f"{name} {mean:.0%} of the highest on average, {least:.0%} at least"


def _throttled(found: Telemetry) -> str:
    if found.throttled is None:
        return ""
    if found.throttled:
        return f"THROTTLED: {', '.join(found.reasons)}"
    return "not throttled" + (f" (since its start: {', '.join(found.earlier)})" if found.earlier else "")


def _power(found: Telemetry) -> str:
    return "" if found.power_w is None else f"{found.power_w:.3g} W ({found.power_source})"


def plots(found: Telemetry | None) -> dict[str, Figure]:
    """Returns figures over time by the keys of `CAPTIONS`; what has no sensor is left out."""
    if found is None or len(found.series.seconds) < 2:
        return {}
    series = found.series
    lines = {
        "heat": ("degrees Celsius", [("hottest sensor", "accent", series.temperature, 1.0)]),
        "clocks": (
            "share of the highest (%)",
            [("processor", "accent", series.clock, 100.0), ("GPU", "dominated", series.gpu_clock, 100.0)],
        ),
        "watts": ("watts", [("power", "accent", series.power, 1.0)]),
    }
    drawn = {key: (title, [line for line in every if line[2]]) for key, (title, every) in lines.items()}
    return {key: _figure(series.seconds, title, every) for key, (title, every) in drawn.items() if every}


def _figure(
    seconds: Sequence[float], title: str, lines: Sequence[tuple[str, str, Sequence[float | None], float]]
) -> Figure:
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": list(seconds),
            "y": [None if value is None else round(value * unit, 2) for value in values],
            "line": {"role": role, "width": 2},
            "hovertemplate": "%{y:.3g} at %{x:.1f} s<extra></extra>",
        }
        for name, role, values, unit in lines
    ]
    layout = {
        "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": title}, **({"rangemode": "tozero"} if title != "degrees Celsius" else {})},
        "shapes": [],
        "annotations": [],
    }
    return {"data": traces, "layout": layout}
