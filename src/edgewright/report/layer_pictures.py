"""Pictures of a winner's layers: error, histograms with ranges, sensitivity against time, the graph by precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgewright.core.codec import decode_stored
from edgewright.core.parity import EXACT_DB, Histogram, LayerParity, Parity
from edgewright.core.recipe import Candidate, Study
from edgewright.core.sensitivity import SENSITIVITY_FILE, GroupSensitivity, Sensitivity
from edgewright.errors import EdgewrightError
from edgewright.report.evidence import Evidence
from edgewright.report.operators import baseline_of
from edgewright.report.parity_text import decibels, with_unit, worst

if TYPE_CHECKING:
    import onnx_ir

T = TypeVar("T")
PARITY, PARITY_FILE, SENSITIVITY, MODEL = "parity", "parity.json", "sensitivity", "model"
SHOWN = 8
"""Layers whose histograms are drawn: those that make the largest errors."""
MOST_NODES = 1500
"""Larger graphs are left out: their picture would be most of the page."""
_WIDTH, _HEIGHT = 280.0, 90.0
_COUNTED = 1e-6
"""Smallest share of the largest bin that is drawn; heights are logarithmic, as tails matter here."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """One layer's.

    Attributes:
        name: Of the tensor.
        text: Its figures.
        activations: An SVG.
        weights: An SVG; empty where its weights are not integers.
    """

    name: str
    text: str
    activations: str
    weights: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """What there is to show of one winner.

    Attributes:
        figures: `layers` and `sensitivity`, for the page's script.
        histograms: Of the worst layers.
        graph: An SVG whose classes `at-...` say the precision; empty where there is none.
        precisions: Those in the graph.
        parity: What errors and histograms rest on.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    histograms: tuple[Histograms, ...] = ()
    graph: str = ""
    precisions: tuple[str, ...] = ()
    parity: Parity | None = None

    @property
    def exact(self) -> bool:
        """True when every layer was compared and none differs."""
        return self.parity is not None and bool(self.parity.layers) and exact(self.parity)


def pictures(study: Study, winner: Candidate, evidence: Evidence) -> Pictures:
    """Draws what the evidence of `winner` has: `parity`, `sensitivity`, `model`; what is not there is left out."""
    parity = _stored(evidence.file(winner, PARITY), PARITY_FILE, Parity)
    holder = next((c for c in (winner, *study.of_target(winner.target)) if evidence.file(c, SENSITIVITY)), winner)
    sensitivity = _stored(evidence.file(holder, SENSITIVITY), SENSITIVITY_FILE, Sensitivity)
    figures: dict[str, Any] = {}
    if parity is not None and not exact(parity):
        figures["layers"] = layers_figure(parity)
    if sensitivity is not None and sensitivity.groups:
        figures["sensitivity"] = sensitivity_figure(sensitivity, _saved(study, winner))
    graph, precisions = _graph(winner, evidence.file(winner, MODEL))
    return Pictures(figures, () if parity is None else worst_histograms(parity), graph, precisions, parity)


def _stored(folder: Path | None, name: str, kind: type[T]) -> T | None:
    if folder is None or not (folder / name).is_file():
        return None
    try:
        return decode_stored(kind, (folder / name).read_bytes())
    except ValueError:
        return None


def exact(parity: Parity) -> bool:
    """Says whether every layer gives exactly what the reference gives."""
    return all(layer.sqnr_db >= EXACT_DB for layer in parity.layers)


def layers_figure(parity: Parity) -> dict[str, Any]:
    """Returns signal to error of every layer, accumulated and its own, as a plotly figure with named colours."""
    layers = parity.layers
    text = [
        f"{escape(x.tensor)}<br>{x.op} {x.precision}<br>so far {decibels(x.sqnr_db)}, alone {decibels(x.local_sqnr_db)}"
        for x in layers
    ]

    def trace(name: str, values: Sequence[float | None], role: str, mode: str) -> dict[str, Any]:
        return {
            "type": "scatter",
            "name": name,
            "mode": mode,
            "x": list(range(len(layers))),
            "y": [None if v is None or v >= EXACT_DB else max(v, -20.0) for v in values],
            "text": text,
            "hoverinfo": "text",
            "marker": {"role": role, "size": 5},
            "line": {"role": role, "width": 1.5},
        }

    traces = [trace("all errors so far", [x.sqnr_db for x in layers], "before", "lines+markers")]
    if any(x.local_sqnr_db is not None for x in layers):
        traces.append(trace("error of the layer alone", [x.local_sqnr_db for x in layers], "after", "markers"))
    axes = {"xaxis": {"title": {"text": "layer, in order"}}, "yaxis": {"title": {"text": "signal to error (dB)"}}}
    return {"data": traces, "layout": {**axes, "shapes": [], "annotations": []}}


def sensitivity_figure(sensitivity: Sensitivity, saved: Mapping[str, float]) -> dict[str, Any]:
    """Returns what each quantised group costs in accuracy against the time that integers save in it.

    Args:
        sensitivity: Of one quantisation.
        saved: Node -> microseconds saved by its kernel; where nothing is known, multiply-accumulates stand in.
    """
    gains = [sum(saved.get(name, 0.0) for name in {*g.operators, *g.nodes}) for g in sensitivity.groups]
    timed = any(gains)
    x = gains if timed else [100 * g.share for g in sensitivity.groups]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": [g.sqnr_db for g in sensitivity.groups],
        "text": [_group_text(g, gain, timed) for g, gain in zip(sensitivity.groups, gains, strict=True)],
        "hoverinfo": "text",
        "marker": {"role": "after", "size": 8},
        "showlegend": False,
    }
    across = "time saved by integers (µs)" if timed else "share of the multiply-accumulates behind it (%)"
    axes = {
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": "output, only this group quantised (dB)"}},
    }
    return {"data": [trace], "layout": {**axes, "shapes": [], "annotations": []}}


def _group_text(group: GroupSensitivity, gain: float, timed: bool) -> str:
    shown = f"{escape(group.name)}" + (f" and {len(group.operators) - 1} more" if len(group.operators) > 1 else "")
    return f"{shown}<br>{group.sqnr_db:.1f} dB" + (f"<br>saves {gain:.1f} µs" if timed else "")


def _saved(study: Study, winner: Candidate) -> dict[str, float]:
    """Returns node -> microseconds that its kernel saves over the float one; for a kernel's first node alone."""
    before = baseline_of(study, winner)
    if before is None:
        return {}
    old, new = _times(before), _times(winner)
    return {node: old[node] - new[node] for node in old.keys() & new.keys()}


def _times(candidate: Candidate) -> dict[str, float]:
    """Returns node -> microseconds; a kernel's time goes to the first of its nodes that is no quantiser."""
    took = {time.node: time.microseconds for time in candidate.operators}
    found: dict[str, float] = {}
    for placed in candidate.placement:
        own = [name for name in placed.source if not name.endswith(("QuantizeLinear", "DequantizeLinear"))]
        if placed.node in took and own:
            found[own[0]] = found.get(own[0], 0.0) + took[placed.node]
    return found


def worst_histograms(parity: Parity, count: int = SHOWN) -> tuple[Histograms, ...]:
    """Returns the histograms of the layers that make the largest errors, in graph order."""
    chosen = worst(parity, count)
    return tuple(_histograms(layer) for layer in parity.layers if layer.tensor in chosen and layer.values is not None)


def _histograms(layer: LayerParity) -> Histograms:
    used, weights = layer.range, layer.weights
    text = f"{layer.op}, {with_unit(layer.sqnr_db)} so far, {with_unit(layer.local_sqnr_db)} alone"
    if used is not None:
        text += f"; {used.dtype}, {used.saturated:.1%} outside, {used.unused:.0%} unused"
    drawn = "" if weights is None or weights.values is None else drawing(weights.values, (weights.low, weights.high))
    assert layer.values is not None
    return Histograms(layer.tensor, text, drawing(layer.values, None if used is None else (used.low, used.high)), drawn)


def drawing(values: Histogram, limits: tuple[float, float] | None) -> str:
    """Returns a histogram as an SVG with the range that integers express; heights are logarithmic.

    Args:
        values: What occurred.
        limits: Ends of the range; None for float.
    """
    import math

    low, high = (
        (values.low, values.high) if limits is None else (min(values.low, limits[0]), max(values.high, limits[1]))
    )
    span, most = (high - low) or 1.0, max(values.counts) or 1
    width = (values.high - values.low) / len(values.counts)
    bars = []
    for n, seen in enumerate(values.counts):
        if seen:
            tall = _HEIGHT * max(1 - math.log10(seen / most) / math.log10(_COUNTED), 0.02)
            left = (values.low + n * width - low) / span * _WIDTH
            bars.append(f"M{left:.1f} {_HEIGHT:.0f}v-{tall:.1f}h{max(width / span * _WIDTH, 0.8):.1f}v{tall:.1f}")
    marks = "".join(f'<path class="limit" d="M{(x - low) / span * _WIDTH:.1f} 0v{_HEIGHT:.0f}"/>' for x in limits or ())
    ends = f'<text x="0" y="102">{low:.3g}</text><text x="{_WIDTH:.0f}" y="102" text-anchor="end">{high:.3g}</text>'
    box = f'viewBox="-1 0 {_WIDTH + 2:.0f} 106" role="img" aria-label="histogram"'
    return f'<svg class="histogram" {box}><path d="{"".join(bars)}"/>{marks}{ends}</svg>'


def _graph(winner: Candidate, folder: Path | None) -> tuple[str, tuple[str, ...]]:
    """Draws the winner's graph without its quantisers."""
    if folder is None or not winner.placement:
        return "", ()
    from edgewright.graph.load import load
    from edgewright.graph.names import name_nodes
    from edgewright.graph.picture import svg

    try:
        model = load(folder)
    except EdgewrightError:
        return "", ()
    name_nodes(model.graph)
    without_quantisers(model)
    if not 0 < len(model.graph) <= MOST_NODES:
        return "", ()
    where = {name: p.precision for p in winner.placement for name in p.source if p.precision != "conversion"}
    classes = {name: f"at-{precision}" for name, precision in where.items()}
    return svg(model, where, None, classes), tuple(sorted(set(where.values())))


def without_quantisers(model: onnx_ir.Model) -> None:
    """Takes QuantizeLinear and DequantizeLinear out, in place: for a picture, the numbers are then wrong."""
    import onnx_ir

    graph = model.graph
    for node in list(graph):
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.inputs[0] is None:
            continue
        onnx_ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
