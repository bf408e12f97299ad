"""The Pareto plots as plain plotly.js figures; colours are named by role and filled in by the page for its theme."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edgewright.core.measurement import Measurement, Timing
from edgewright.core.recipe import BROKE, DOMINATED, MET, Candidate, Study
from edgewright.report.rows import row
from edgewright.search import wording

SYMBOLS = {MET: "circle", BROKE: "x", DOMINATED: "diamond-open"}
Figure = dict[str, Any]


def pareto_plots(study: Study, target: str) -> dict[str, Figure]:
    """Returns the figures `speed` (speed-up against quality) and `size` of one target; empty when none was timed.

    Both use the `tune` split, on which the choice was made, because every candidate has it.
    """
    timed = [c for c in study.of_target(target) if c.measurement and c.measurement.timing]
    if not timed or study.reference.measurement is None:
        return {}
    points = [study.reference, *(c for c in timed if c.id != study.reference.id)]
    points = [c for c in points if c.measurement and c.measurement.timing]
    return {
        "speed": _figure(
            study, target, points, "speed-up over the original (x, higher is faster)", _speed, _speed_error
        ),
        "size": _figure(study, target, points, "size on disk (MB, lower is smaller)", _megabytes, None),
    }


def _speed(timing: Timing) -> float:
    return timing.speedup.value


def _speed_error(timing: Timing) -> tuple[float, float]:
    return timing.speedup.value - timing.speedup.low, timing.speedup.high - timing.speedup.value


def _megabytes(timing: Timing) -> float:
    return timing.size_bytes / 1e6


def _figure(
    study: Study,
    target: str,
    points: Sequence[Candidate],
    axis: str,
    cost: Callable[[Timing], float],
    error: Callable[[Timing], tuple[float, float]] | None,
) -> Figure:
    metric, unit, _ = _metric(study)
    groups: dict[str, list[Candidate]] = {}
    for candidate in points:
        groups.setdefault(_role(study, candidate), []).append(candidate)
    traces = [_front(study, target, points, cost)]
    traces += [_trace(study, role, groups[role], cost, error) for role in _ROLES if role in groups]
    layout = {
        "xaxis": {"title": {"text": axis}, "rangemode": "tozero" if error is None else "normal"},
        "yaxis": {"title": {"text": f"change of {metric} ({unit})"}},
        "shapes": _lines(study, error is not None),
    }
    return {"data": [t for t in traces if t["x"]], "layout": layout}


_ROLES = ("reference", MET, DOMINATED, BROKE, "winner")
_NAMES = {MET: "meets the budget", BROKE: "breaks the budget", DOMINATED: "dominated"}


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


def _trace(
    study: Study,
    role: str,
    group: Sequence[Candidate],
    cost: Callable[[Timing], float],
    error: Callable[[Timing], tuple[float, float]] | None,
) -> Figure:
    found = [(c, m, m.timing) for c in group if (m := c.measurement) is not None and m.timing is not None]
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "name": _NAMES.get(role, {"reference": "original", "winner": "winner"}.get(role, role)),
        "x": [cost(t) for _, _, t in found],
        "y": [_change(study, m) for _, m, _ in found],
        "text": [_hover(study, c) for c, _, _ in found],
        "customdata": [c.id for c, _, _ in found],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": _symbol(role), "size": 18 if role == "winner" else 11, "role": role},
        "error_y": _error_bar([_change_error(study, m) for _, m, _ in found], role),
    }
    if error is not None:
        trace["error_x"] = _error_bar([error(t) for _, _, t in found], role)
    return trace


def _symbol(role: str) -> str:
    return {"reference": "square", "winner": "star"}.get(role, SYMBOLS.get(role, "circle"))


def _error_bar(errors: Sequence[tuple[float, float]], role: str) -> Figure:
    low, high = [e[0] for e in errors], [e[1] for e in errors]
    return {"type": "data", "symmetric": False, "arrayminus": low, "array": high, "role": role, "thickness": 1.2}


def _front(study: Study, target: str, points: Sequence[Candidate], cost: Callable[[Timing], float]) -> Figure:
    on_front = set(study.fronts.get(target, ()))
    found = sorted(
        (cost(m.timing), _change(study, m))
        for c in points
        if c.id in on_front and (m := c.measurement) is not None and m.timing is not None
    )
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"Pareto front ({study.objective})",
        "x": [x for x, _ in found],
        "y": [y for _, y in found],
        "hoverinfo": "skip",
        "line": {"role": "front", "width": 1.5, "dash": "dot"},
    }


def _lines(study: Study, is_speed: bool) -> list[Figure]:
    lines: list[Figure] = []
    if study.budget.quality_drop is not None and study.reference.measurement is not None:
        sign = -1.0 if study.reference.measurement.tune.figures[0].higher_is_better else 1.0
        limit = sign * _metric(study)[2] * study.budget.quality_drop
        lines.append(_line("y", limit, f"limit {limit:+g}"))
    if is_speed and study.budget.speedup is not None:
        lines.append(_line("x", study.budget.speedup, f"limit {study.budget.speedup:g}x"))
    if not is_speed and study.budget.size_bytes is not None:
        lines.append(_line("x", study.budget.size_bytes / 1e6, f"limit {wording.size(study.budget.size_bytes)}"))
    return lines


def _line(axis: str, value: float, text: str) -> Figure:
    across = {"x0": 0, "x1": 1, "xref": "paper", "y0": value, "y1": value, "yref": "y"}
    upright = {"y0": 0, "y1": 1, "yref": "paper", "x0": value, "x1": value, "xref": "x"}
    place = across if axis == "y" else upright
    label = {"text": text, "textposition": "end", "font": {"size": 11}}
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
