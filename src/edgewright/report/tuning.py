"""A tuning as a table on the terminal and as a page that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from edgewright.report.html import page_parts
from edgewright.search import wording
from edgewright.search.tuning.results import Outcome, Tried, Tuning

Figure = dict[str, Any]
CAPTIONS = {
    "history": "Every trial in order, and the best so far inside the budget",
    "front": "Quality against speed: no trial beats those on the line in both",
    "importance": "Which parameters the objective depends on",
}
_WORST, _GOOD = "broke budget", "met"


def tuning_html(tuning: Tuning) -> str:
    """Returns the page. Nothing is requested from any network.

    Raises:
        ToolchainMissing: jinja2 or plotly is not installed.
    """
    environment, parts = page_parts()
    slices = {name: _slice(tuning, name) for name in tuning.parameters}
    plots = {"history": _history(tuning), "front": _front(tuning), "importance": _importance(tuning)}
    plots = {kind: figure for kind, figure in plots.items() if figure["data"]}
    drawn = {f"slice-{index}": slices[name] for index, name in enumerate(tuning.parameters) if slices[name]["data"]}
    return environment.get_template("tuning.html.jinja").render(
        **parts,
        tuning=tuning,
        headline=headline(tuning),
        headers=_headers(tuning),
        rows=[(trial, _cells(trial, tuning), _role(trial, tuning)) for trial in _order(tuning)],
        plots={**plots, **drawn},
        captions={kind: CAPTIONS[kind] for kind in plots},
        slices={key: tuning.parameters[int(key.removeprefix("slice-"))] for key in drawn},
    )


def show_tuning(tuning: Tuning, console: Console | None = None) -> None:
    """Prints the trials, the best first."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for header in _headers(tuning):
        table.add_column(header, justify="right", overflow="fold")
    for trial in _order(tuning):
        style = {"winner": "bold green", _WORST: "dim"}.get(_role(trial, tuning), "")
        table.add_row(*_cells(trial, tuning), style=style)
    console.print(table)
    console.print(headline(tuning), soft_wrap=True, markup=False)


def headline(tuning: Tuning) -> str:
    """Says in one sentence what was found."""
    if tuning.best is None:
        return f"{tuning.subject}: no trial was judged yet"
    trial = tuning.trial(tuning.best)
    assert trial.outcome is not None
    values = ", ".join(f"{name} = {_value(value)}" for name, value in trial.values.items())
    result = f"{tuning.metric} {_quality(trial.outcome, tuning)} on tune ({_change(trial.outcome, tuning)})"
    speed = f", {wording.speed(trial.outcome.speedup)} the speed of the original" if trial.outcome.speedup else ""
    inside = "" if trial.outcome.inside else "nothing meets the budget, nearest is "
    return f"{inside}trial {trial.number} of {len(tuning.judged)}: {values}: {result}{speed}"


def _order(tuning: Tuning) -> Sequence[Tried]:
    """The best first, then the front, then the rest by number."""
    first = [n for n in (tuning.best, *tuning.front) if n is not None]
    ranks = {number: index for index, number in reversed(list(enumerate(first)))}
    return sorted(tuning.trials, key=lambda trial: (ranks.get(trial.number, len(first)), trial.number))


def _headers(tuning: Tuning) -> tuple[str, ...]:
    return ("trial", *tuning.parameters, tuning.metric, "change", "speed-up", "size", "result", "machine")


def _cells(trial: Tried, tuning: Tuning) -> tuple[str, ...]:
    values = (_value(trial.values.get(name)) for name in tuning.parameters)
    outcome = trial.outcome
    if outcome is None or outcome.quality is None:
        said = f"failed: {outcome.error}" if outcome else _STATES.get(trial.state, trial.state)
        return (str(trial.number), *values, "", "", "", "", said, outcome.machine if outcome else "")
    interval = f" ({outcome.speedup_low:.2f} to {outcome.speedup_high:.2f})" if outcome.speedup_low else ""
    speed = f"{wording.speed(outcome.speedup)}{interval}" if outcome.speedup else ""
    size = wording.size(outcome.size_bytes) if outcome.size_bytes else ""
    result = "; ".join(outcome.broken) or "inside the budget"
    again = f", again for trial {trial.retry_of}" if trial.retry_of is not None else ""
    quality, change = _quality(outcome, tuning), _change(outcome, tuning)
    return (str(trial.number), *values, quality, change, speed, size, result + again, outcome.machine)


_STATES = {"failed": "its worker ended; tried again", "running": "in work", "waiting": "waiting to be tried again"}


def _quality(outcome: Outcome, tuning: Tuning) -> str:
    assert outcome.quality is not None
    return wording.quality(outcome.quality, _is_share(tuning))


def _change(outcome: Outcome, tuning: Tuning) -> str:
    assert outcome.quality is not None
    return wording.difference(outcome.quality - tuning.baseline, _is_share(tuning))


def _is_share(tuning: Tuning) -> bool:
    return wording.is_share(tuning.metric, tuning.baseline, tuning.higher_is_better)


def _value(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _role(trial: Tried, tuning: Tuning) -> str:
    if trial.number == tuning.best:
        return "winner"
    return _GOOD if trial.outcome is not None and trial.outcome.inside else _WORST


_NAMES = {"winner": "best", _GOOD: "inside the budget", _WORST: "outside"}


def _scatter(tuning: Tuning, points: Sequence[tuple[Tried, Any, float]]) -> list[Figure]:
    """Returns one trace per role, so that the legend tells them apart."""
    traces = []
    for role, name in _NAMES.items():
        mine = [(t, x, y) for t, x, y in points if _role(t, tuning) == role]
        if mine:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [x for _, x, _ in mine],
                    "y": [y for _, _, y in mine],
                    "text": [_hover(t) for t, _, _ in mine],
                    "hovertemplate": "%{text}<extra></extra>",
                    "marker": {"role": role, "size": 11 if role == "winner" else 8},
                }
            )
    return traces


def _hover(trial: Tried) -> str:
    values = "<br>".join(f"{_escaped(name)} = {_escaped(_value(value))}" for name, value in trial.values.items())
    return f"trial {trial.number}<br>{values}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _layout(x: str, y: str) -> Figure:
    return {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, "shapes": [], "annotations": []}


def _line(x: Sequence[float], y: Sequence[float], name: str, shape: str) -> Figure:
    line = {"role": "front", "shape": shape, "width": 1.5}
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": line, "hoverinfo": "skip"}


def _shown(outcome: Outcome, tuning: Tuning) -> float:
    """Returns what the axis of quality, or of speed where that is sought, shows."""
    if tuning.objective == "speed":
        return outcome.speedup or 0.0
    assert outcome.quality is not None
    return outcome.quality


def _history(tuning: Tuning) -> Figure:
    points = [(t, t.number, _shown(t.outcome, tuning)) for t in tuning.judged if t.outcome is not None]
    up = tuning.higher_is_better or tuning.objective == "speed"
    best: list[float] = []
    numbers: list[float] = []
    for trial, number, value in points:
        if trial.outcome is not None and trial.outcome.inside:
            numbers.append(number)
            best.append(value if not best else (max if up else min)(best[-1], value))
    lines = [_line(numbers, best, "best so far", "hv")] if best else []
    title = "speed-up over the original" if tuning.objective == "speed" else f"{tuning.metric} on tune"
    return {"data": [*lines, *_scatter(tuning, points)], "layout": _layout("trial", title)}


def _front(tuning: Tuning) -> Figure:
    timed = [(t, t.outcome) for t in tuning.judged if t.outcome is not None and t.outcome.speedup]
    points = [(t, o.speedup, _of(o)) for t, o in timed]
    ends = [o for n in tuning.front if (o := tuning.trial(n).outcome) is not None and o.speedup]
    lines = [_line([o.speedup or 0.0 for o in ends], [_of(o) for o in ends], "front", "linear")] if ends else []
    layout = _layout("speed-up over the original (x, higher is faster)", f"{tuning.metric} on tune")
    return {"data": [*lines, *_scatter(tuning, points)], "layout": layout}


def _of(outcome: Outcome) -> float:
    assert outcome.quality is not None
    return outcome.quality


def _importance(tuning: Tuning) -> Figure:
    if not tuning.importance:
        return {"data": [], "layout": {}}
    ordered = sorted(tuning.importance.items(), key=lambda item: item[1])
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "share",
        "x": [value for _, value in ordered],
        "y": [_escaped(name) for name, _ in ordered],
        "marker": {"role": "winner"},
    }
    return {"data": [bars], "layout": _layout("share of what changed the objective", "")}


def _slice(tuning: Tuning, name: str) -> Figure:
    known = [(t, t.values[name], _shown(t.outcome, tuning)) for t in tuning.judged if t.outcome and name in t.values]
    points = [(t, x if isinstance(x, (int, float)) and not isinstance(x, bool) else str(x), y) for t, x, y in known]
    numbers = [x for _, x, _ in points if isinstance(x, (int, float))]
    layout = _layout(_escaped(name), "speed-up" if tuning.objective == "speed" else tuning.metric)
    if len(numbers) == len(points) and numbers and min(numbers) > 0 and max(numbers) / min(numbers) > 50:
        layout["xaxis"]["type"] = "log"
    return {"data": _scatter(tuning, points), "layout": layout}
