"""The Pareto plots as plain plotly.js figures; colours are named by role and filled in by the page for its theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.core.measurement import Measurement, Ratio
from edgewright.core.recipe import BROKE, DOMINATED, MET, Candidate, Study
from edgewright.report.rows import row
from edgewright.search import pareto, wording

SYMBOLS = {MET: "circle", BROKE: "x", DOMINATED: "diamond-open"}
Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Axis:
    """A cost to plot: its title, the objective whose front is drawn, and the value of each candidate."""

    title: str
    objective: str
    values: Mapping[str, Ratio]


def pareto_plots(study: Study, target: str) -> dict[str, Figure]:
    """Returns the figures of one target by the objective of their axis, against the change of quality.

    `latency` (as speed-up) and `size` are always there, `memory` and `energy` when they are the objective; nothing
    is there when no candidate was timed. All use the `tune` split, on which the choice was made, because every
    candidate has it.
    """
    timed = [c for c in study.of_target(target) if c.measurement and c.measurement.timing]
    if not timed or study.reference.measurement is None:
        return {}
    points = [study.reference, *(c for c in timed if c.id != study.reference.id)]
    axes = [_speed_axis(points), _cost_axis(points, pareto.SIZE, "size on disk (MB, lower is smaller)", 1e6)]
    if study.objective == pareto.MEMORY:
        axes.append(_cost_axis(points, pareto.MEMORY, "peak memory (MB)", 1e6))
    if study.objective == pareto.ENERGY:
        axes.append(_cost_axis(points, pareto.ENERGY, "energy per run (mJ)", 1.0))
    return {axis.objective: _figure(study, target, points, axis) for axis in axes}


def _speed_axis(points: Sequence[Candidate]) -> _Axis:
    settings = {(c.threads, c.batch) for c in points}
    title = "speed-up over the original (x, higher is faster)"
    if len(settings) > 1:
        title = f"speed-up over the original with {wording.plural(points[0].threads, 'thread')} (x, higher is faster)"
    return _Axis(title, pareto.LATENCY, pareto.speeds(points))


def _cost_axis(points: Sequence[Candidate], objective: str, title: str, unit: float) -> _Axis:
    found = {key: value / unit for key, value in pareto.costs(points, objective).items()}
    return _Axis(title, objective, {key: Ratio(value, value, value) for key, value in found.items()})


def _figure(study: Study, target: str, points: Sequence[Candidate], axis: _Axis) -> Figure:
    metric, unit, _ = _metric(study)
    groups: dict[str, list[Candidate]] = {}
    for candidate in points:
        if candidate.id in axis.values:
            groups.setdefault(_role(study, candidate), []).append(candidate)
    traces = [_front(study, target, axis)]
    traces += [_trace(study, role, groups[role], axis) for role in _ROLES if role in groups]
    layout = {
        "xaxis": {"title": {"text": axis.title}, "rangemode": "normal" if _is_speed(axis) else "tozero"},
        "yaxis": {"title": {"text": f"change of {metric} ({unit})"}, **_window(study, points)},
        "shapes": _lines(study, axis),
        "annotations": _outside(study, points, axis),
    }
    return {"data": [t for t in traces if t["x"]], "layout": layout}


def _reach(study: Study, points: Sequence[Candidate]) -> float | None:
    """Returns the largest change shown at first, when a broken candidate would flatten all the others; else None."""
    changes = {c.id: abs(_change(study, m)) for c in points if (m := c.measurement) is not None}
    inside = [changes[c.id] for c in points if c.id in changes and c.verdict != BROKE]
    limit = _metric(study)[2] * (study.budget.quality_drop or 0.0)
    reach = 4 * max([limit, *inside])
    return reach if reach > 0 and max(changes.values()) > 2 * reach else None


def _window(study: Study, points: Sequence[Candidate]) -> Figure:
    reach = _reach(study, points)
    return {} if reach is None else {"range": [-reach, reach / 2] if _is_better_up(study) else [-reach / 2, reach]}


def _outside(study: Study, points: Sequence[Candidate], axis: _Axis) -> list[Figure]:
    """Names the candidates beyond the first view at its edge, with their change; a double click shows them."""
    reach = _reach(study, points)
    if reach is None:
        return []
    up = _is_better_up(study)
    found = [(c, _change(study, m)) for c in points if c.id in axis.values and (m := c.measurement) is not None]
    far = [(c, change) for c, change in found if abs(change) > reach]
    return [
        {
            "x": axis.values[c.id].value,
            "y": 0 if up else 1,
            "yref": "paper",
            "yanchor": "bottom" if up else "top",
            "yshift": 13 * index,
            "text": f"{_plain(c.recipe.title)}: {change:+.1f}, outside",
            "showarrow": False,
            "role": _role(study, c),
        }
        for index, (c, change) in enumerate(far)
    ]


def _is_better_up(study: Study) -> bool:
    assert study.reference.measurement is not None
    return study.reference.measurement.tune.figures[0].higher_is_better


def _is_speed(axis: _Axis) -> bool:
    return axis.objective == pareto.LATENCY


_ROLES = ("reference", MET, DOMINATED, BROKE, "winner")
_NAMES = {MET: "meets the budget", BROKE: "breaks the budget", "reference": "original"}


def _role(study: Study, candidate: Candidate) -> str:
    if candidate.id == study.reference.id:
        return "reference"
    return "winner" if study.winners.get(candidate.target) == candidate.id else candidate.verdict


def _metric(study: Study) -> tuple[str, str, float]:
    assert study.reference.measurement is not None
    figure = study.reference.measurement.tune.figures[0]
    share = wording.figure_is_share(figure)
    return figure.metric, "points" if share else "its own unit", 100.0 if share else 1.0


def _change(study: Study, measurement: Measurement) -> float:
    assert study.reference.measurement is not None
    baseline = study.reference.measurement.tune.figures[0].value
    return _metric(study)[2] * (measurement.tune.figures[0].value - baseline)


def _change_error(study: Study, measurement: Measurement) -> tuple[float, float]:
    if not measurement.tune.difference:
        return 0.0, 0.0
    paired, unit = measurement.tune.difference[0], _metric(study)[2]
    return unit * (paired.value - paired.low), unit * (paired.high - paired.value)


def _trace(study: Study, role: str, group: Sequence[Candidate], axis: _Axis) -> Figure:
    found = [(c, m, axis.values[c.id]) for c in group if (m := c.measurement) is not None]
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": _NAMES.get(role, role),
        "x": [cost.value for _, _, cost in found],
        "y": [_change(study, m) for _, m, _ in found],
        "text": [_hover(study, c) for c, _, _ in found],
        "customdata": [c.id for c, _, _ in found],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": _symbol(role), "size": 18 if role == "winner" else 11, "role": role},
        "error_y": _error_bar([_change_error(study, m) for _, m, _ in found], role),
    }
    if _is_speed(axis):
        spans = [(cost.value - cost.low, cost.high - cost.value) for _, _, cost in found]
        trace["error_x"] = _error_bar(spans, role)
    return trace


def _symbol(role: str) -> str:
    return {"reference": "square", "winner": "star"}.get(role, SYMBOLS.get(role, "circle"))


def _error_bar(errors: Sequence[tuple[float, float]], role: str) -> Figure:
    low, high = [e[0] for e in errors], [e[1] for e in errors]
    return {"type": "data", "symmetric": False, "arrayminus": low, "array": high, "role": role, "thickness": 1.2}


def _front(study: Study, target: str, axis: _Axis) -> Figure:
    mine = study.of_target(target)
    on_front = [c for c in mine if c.id in pareto.front(mine, axis.objective) and c.id in axis.values]
    found = sorted((axis.values[c.id].value, _change(study, m)) for c in on_front if (m := c.measurement) is not None)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Pareto front",
        "x": [x for x, _ in found],
        "y": [y for _, y in found],
        "hoverinfo": "skip",
        "line": {"role": "front", "width": 1.5, "dash": "dot"},
    }


def _lines(study: Study, axis: _Axis) -> list[Figure]:
    lines: list[Figure] = []
    budget = study.budget
    if budget.quality_drop is not None and study.reference.measurement is not None:
        sign = -1.0 if _is_better_up(study) else 1.0
        limit = sign * _metric(study)[2] * budget.quality_drop
        lines.append(_line("y", limit, f"limit {limit:+g}"))
    if _is_speed(axis) and budget.speedup is not None:
        lines.append(_line("x", budget.speedup, f"limit {budget.speedup:g}x"))
    if axis.objective == pareto.SIZE and budget.size_bytes is not None:
        lines.append(_line("x", budget.size_bytes / 1e6, f"limit {wording.size(budget.size_bytes)}"))
    return lines


def _line(axis: str, value: float, text: str) -> Figure:
    across = {"x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value, "yref": "y"}
    upright = {"y0": 0, "y1": 1, "yref": "paper", "x0": value, "x1": value, "xref": "x"}
    place = across if axis == "y" else upright
    label = {"text": text, "textposition": "start", "font": {"size": 11}}
    return {"type": "line", "line": {"role": "limit", "width": 1, "dash": "dash"}, "label": label, **place}


def _hover(study: Study, candidate: Candidate) -> str:
    """Returns the text of a hover box; plotly reads a little HTML, so everything from outside is made harmless."""
    shown = row(study, candidate, study.of_target(candidate.target) or (candidate,))
    lines = [
        f"<b>{_plain(shown.title)}</b>",
        f"{shown.quality} ({shown.split}, {shown.samples} samples), {shown.drop} [{shown.drop_interval}]",
        f"{shown.p50} p50, {shown.p95} p95, {shown.speedup} [{shown.speedup_interval}]",
        f"{shown.size} on disk, {shown.memory} peak memory",
        f"{shown.basis} on {_plain(study.device.processor)}",
        _plain(shown.why),
    ]
    return "<br>".join(line for line in lines if line)


def _plain(text: str, width: int = 70) -> str:
    """Wraps, and replaces what plotly would read as markup."""
    words, lines = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)
