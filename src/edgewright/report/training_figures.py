"""Figures of training, pruning and sparsity, as plain plotly.js figures; colours are named by role."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from edgewright.core.pruning import PrunedGroup
from edgewright.core.training import History

if TYPE_CHECKING:
    from edgewright.graph.sparsity import LayerSparsity

Figure = dict[str, Any]
_SHARES = ("top-1", "agreement", "accuracy")
"""Scores that are shown in per cent."""
_ROLES = ("accent", "dominated", "reference", "broke", "met")
_PATTERN_ROLES = {"": "before", "unstructured": "dominated"}
_LABEL = 26
"""Letters of a layer's name on an axis."""


def score_text(title: str, score: float) -> str:
    """Returns a score with its unit."""
    return f"{score:.1%}" if title in _SHARES else f"{score:.4g}"


def curves(histories: Sequence[tuple[str, History]]) -> dict[str, tuple[str, Figure]]:
    """Returns the scores of all stages, one figure for each kind of score, and their losses: kind -> caption, figure.

    Epochs are counted through the stages, so that a pipeline reads from left to right; a star is the epoch kept.

    Args:
        histories: Title of each stage that trained, and how it went.
    """
    starts = [sum(len(history.epochs) for _, history in histories[:i]) for i in range(len(histories))]
    found: dict[str, tuple[str, Figure]] = {}
    for number, title in enumerate(dict.fromkeys(history.title for _, history in histories)):
        mine = [(i, stage, h) for i, (stage, h) in enumerate(histories) if h.title == title]
        traces = [trace for i, stage, h in mine for trace in _scores(i, stage, h, starts[i])]
        if traces:
            unit = " (%)" if title in _SHARES else ""
            shown = f"{_named(title)}, held out{unit}"
            found[f"score-{number}"] = (f"{_named(title)} per epoch", _plot(traces, "epoch, through all stages", shown))
    losses = [_loss(i, stage, history, starts[i]) for i, (stage, history) in enumerate(histories)]
    if losses:
        found["loss"] = ("Loss per epoch", _plot(losses, "epoch, through all stages", "mean loss of the epoch"))
    return found


def widths(groups: Sequence[PrunedGroup]) -> Figure:
    """Returns channels or heads of every group before and after, as bars."""
    labels = [_short(group.layers[0] if group.layers else group.group) for group in groups]
    text = [
        f"{escape(', '.join(group.layers) or group.group)}<br>{group.before} {group.kind} became {group.after}"
        for group in groups
    ]
    bars = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(1, len(groups) + 1)),
            "y": [getattr(group, name) for group in groups],
            "text": text,
            "textposition": "none",
            "hoverinfo": "text",
            "marker": {"role": name},
        }
        for name in ("before", "after")
    ]
    return _bars(bars, labels, "channels or heads", "group")


def zeros(layers: Sequence[LayerSparsity]) -> Figure:
    """Returns the share of zeros among the weights of every layer, as bars with a colour for each pattern."""
    bars = []
    for pattern in dict.fromkeys(layer.pattern for layer in layers):
        mine = [(i, layer) for i, layer in enumerate(layers, start=1) if layer.pattern == pattern]
        bars.append(
            {
                "type": "bar",
                "name": pattern or "dense",
                "x": [i for i, _ in mine],
                "y": [round(100 * layer.share, 2) for _, layer in mine],
                "text": [_layer_text(layer) for _, layer in mine],
                "textposition": "none",
                "hoverinfo": "text",
                "marker": {"role": _PATTERN_ROLES.get(pattern, "accent")},
                "showlegend": True,
            }
        )
    figure = _bars(bars, [_short(layer.layer) for layer in layers], "weights that are zero (%)", "overlay")
    figure["layout"]["yaxis"]["range"] = [0, 100]
    return figure


def _scores(index: int, stage: str, history: History, start: int) -> list[Figure]:
    unit = 100.0 if history.title in _SHARES else 1.0
    points = [(start, history.start), *((start + 1 + i, epoch.score) for i, epoch in enumerate(history.epochs))]
    seen = [(x, unit * score) for x, score in points if score is not None]
    if not seen:
        return []
    line = _line(index, stage, [x for x, _ in seen], [y for _, y in seen], "%{y:.4g} after epoch %{x}")
    kept = points[history.best + 1]
    if kept[1] is None:
        return [line]
    star = {
        "type": "scatter",
        "mode": "markers",
        "x": [kept[0]],
        "y": [unit * kept[1]],
        "marker": {"role": _role(index), "symbol": "star", "size": 15},
        "hovertemplate": f"kept: %{{y:.4g}}<extra>{escape(stage)}</extra>",
        "showlegend": False,
    }
    return [line, star]


def _loss(index: int, stage: str, history: History, start: int) -> Figure:
    x = [start + 1 + i for i in range(len(history.epochs))]
    return _line(index, stage, x, [epoch.loss for epoch in history.epochs], "loss %{y:.4g} in epoch %{x}")


def _line(index: int, stage: str, x: Sequence[int], y: Sequence[float], hover: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": escape(stage if len(stage) <= 48 else f"{stage[:47]}…"),
        "x": list(x),
        "y": list(y),
        "line": {"role": _role(index), "width": 2},
        "marker": {"role": _role(index), "size": 6},
        "hovertemplate": f"{hover}<extra></extra>",
    }


def _role(index: int) -> str:
    return _ROLES[index % len(_ROLES)]


def _named(title: str) -> str:
    return "Negative loss" if title == "-loss" else title.capitalize()


def _plot(traces: Sequence[Figure], across: str, up: str) -> Figure:
    axes = {"xaxis": {"title": {"text": across}, "rangemode": "tozero", "dtick": _step(traces)},
            "yaxis": {"title": {"text": up}}}  # fmt: skip
    return {"data": list(traces), "layout": {**axes, "shapes": [], "annotations": []}}


def _step(traces: Sequence[Figure]) -> int:
    last = max((x for trace in traces for x in trace["x"]), default=1)
    return max(1, -(-last // 12))


def _bars(bars: Sequence[Figure], labels: Sequence[str], up: str, mode: str) -> Figure:
    every = max(1, -(-len(labels) // 32))
    places = list(range(1, len(labels) + 1, every))
    ticks = {"tickvals": places, "ticktext": [escape(labels[i - 1]) for i in places], "tickangle": -60}
    axes = {"xaxis": {**ticks, "tickfont": {"size": 10}}, "yaxis": {"title": {"text": up}, "rangemode": "tozero"}}
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    return {"data": list(bars), "layout": {**axes, "barmode": mode, "legend": legend, "shapes": [], "annotations": []}}


def _short(name: str) -> str:
    return name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}"


def _layer_text(layer: LayerSparsity) -> str:
    idle = f"<br>{layer.idle} of {layer.outputs} outputs have no weight left" if layer.idle else ""
    return f"{escape(layer.layer)}<br>{layer.share:.0%} of {layer.weights:,} weights, {layer.pattern or 'dense'}{idle}"
