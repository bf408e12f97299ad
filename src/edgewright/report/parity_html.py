"""A comparison as one self-contained HTML page that opens offline: error per layer, histograms, the graph coloured."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edgewright
from edgewright.core.parity import EXACT_DB, Histogram, LayerParity, Parity
from edgewright.errors import EdgewrightError, ToolchainMissing
from edgewright.report.parity_text import decibels, share, with_unit, worst

if TYPE_CHECKING:
    import onnx_ir

_STEPS = 4
"""How far behind a node the layer may end that it was fused into."""


def write_parity_page(found: Parity, reference: Path, page: Path) -> None:
    """Writes the page of a comparison.

    Args:
        found: The comparison.
        reference: Path of the reference; an ONNX model is drawn.
        page: File to write.

    Raises:
        ToolchainMissing: jinja2, plotly or grandalf is not installed.
    """
    text = parity_html(found, _drawable(reference))
    page.parent.mkdir(parents=True, exist_ok=True)
    partial = page.with_name(f"{page.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)


def parity_html(found: Parity, model: onnx_ir.Model | None = None) -> str:
    """Returns the page.

    A content security policy lets only the page's own scripts run: a tensor's name that looks like markup stays text.

    Args:
        found: The comparison.
        model: The reference's graph with shapes, to draw.

    Raises:
        ToolchainMissing: jinja2, plotly or grandalf is not installed.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ToolchainMissing("the page needs jinja2 and plotly", hint='pip install "edgewright[build]"') from error
    plotly, script, graph = str(get_plotlyjs()).replace("\r\n", "\n"), _text("parity.js"), _text("inspect.js")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgewright.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"db": decibels, "share": share}
    marked = worst(found)
    return environment.get_template("parity.html.jinja").render(
        found=found,
        worst=marked,
        first=next((n for n, layer in enumerate(found.layers) if layer.tensor in marked), 0),
        data=page_data(found, {} if model is None else covering(model, found)),
        picture="" if model is None else _picture(model, found),
        css=_text("inspect.css") + _text("parity.css"),
        plotly=plotly,
        script=script,
        graph_script=graph,
        hashes=[_hash(plotly), _hash(script), _hash(graph)],
        version=edgewright.__version__,
    )


def page_data(found: Parity, nodes: Mapping[str, int]) -> dict[str, Any]:
    """Returns what the page's script draws.

    Args:
        found: The comparison.
        nodes: Node of the reference -> index of the layer that its work belongs to.
    """
    finite = [v for x in found.layers for v in (x.sqnr_db, x.local_sqnr_db) if v is not None and v < EXACT_DB]
    layers = [layer_data(layer) for layer in found.layers]
    kept = ("total", "own", "precision")
    return {
        "layers": layers,
        "nodes": {name: {**{k: layers[i][k] for k in kept}, "layer": i} for name, i in nodes.items()},
        "top": 1.1 * max([10.0, *finite]),
    }


def layer_data(layer: LayerParity) -> dict[str, Any]:
    """Returns one layer for the page's script."""
    return {
        "tensor": layer.tensor,
        "op": layer.op,
        "precision": layer.precision,
        "total": layer.sqnr_db,
        "own": layer.local_sqnr_db,
        "values": _histogram(layer.values),
        "candidate": _histogram(layer.candidate_values),
        "range": None if layer.range is None else [layer.range.low, layer.range.high],
        "weights": None if layer.weights is None else _histogram(layer.weights.values),
        "stored": None if layer.weights is None else [layer.weights.low, layer.weights.high],
        "pairs": layer.pairs,
        "told": _told(layer),
    }


def covering(model: onnx_ir.Model, found: Parity) -> dict[str, int]:
    """Returns node -> index of the layer it belongs to: its own, or the one that it was fused into."""
    from edgewright.graph.names import name_nodes

    name_nodes(model.graph)
    known: dict[str, int] = {}
    for index, layer in enumerate(found.layers):
        known.setdefault(layer.node, index)
    return {
        node.name or "": place for node in model.graph if (place := _covered(node, known)) is not None and node.name
    }


def _covered(node: onnx_ir.Node, known: Mapping[str, int]) -> int | None:
    for _ in range(_STEPS):
        if (node.name or "") in known:
            return known[node.name or ""]
        readers = [use.node for value in node.outputs for use in value.uses()]
        if len(readers) != 1:
            return None
        node = readers[0]
    return None


def _told(layer: LayerParity) -> str:
    told = [f"cosine {layer.cosine:.4f}", f"largest error {layer.largest_error:.3g}"]
    if layer.range is not None:
        used = layer.range
        outside = "nothing" if used.saturated == 0 else share(used.saturated)
        told.append(f"{used.dtype}, {outside} outside the range, {max(used.unused, 0):.1%} of it unused")
    if layer.weights is not None:
        told.append(f"weights {layer.weights.dtype}, {with_unit(layer.weights.sqnr_db)}")
    if layer.not_finite:
        told.append(f"{layer.not_finite} values are not finite")
    return "; ".join(told)


def _histogram(found: Histogram | None) -> dict[str, Any] | None:
    return None if found is None else {"low": found.low, "high": found.high, "counts": found.counts}


def _picture(model: onnx_ir.Model, found: Parity) -> str:
    from edgewright.graph.picture import svg

    layers = {layer.node: layer for layer in found.layers}
    notes = {
        name: f"{with_unit(x.sqnr_db)} so far, {with_unit(x.local_sqnr_db)} alone; {x.precision}; {_told(x)}"
        for name, x in layers.items()
    }
    return svg(model, notes)


def _drawable(reference: Path) -> onnx_ir.Model | None:
    """Returns the graph with the shapes of one sample; None where the reference is no ONNX model."""
    if reference.suffix.lower() not in (".onnx", "") or (reference / "model.xml").exists():
        return None
    from edgewright.graph.load import load
    from edgewright.graph.names import name_nodes
    from edgewright.graph.shapes import bind_axes

    try:
        model = bind_axes(load(reference), {})
    except EdgewrightError:
        return None
    name_nodes(model.graph)
    return model


def _text(name: str) -> str:
    return (files("edgewright.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
