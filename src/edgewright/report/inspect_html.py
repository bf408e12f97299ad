"""An inspection as one self-contained HTML page that opens offline, with the graph as a picture."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

import edgewright
from edgewright.errors import ToolchainMissing
from edgewright.report.inspection import Inspection, NodeRow

if TYPE_CHECKING:
    import onnx_ir

_SLOWEST = 15


def inspection_html(found: Inspection, model: onnx_ir.Model) -> str:
    """Returns the page.

    A content security policy lets only the page's own script run: a node's name that looks like markup stays text.

    Args:
        found: The findings.
        model: With the shapes of one sample.

    Raises:
        ToolchainMissing: jinja2 or grandalf is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ToolchainMissing("the page needs jinja2", hint='pip install "edgewright[build]"') from error
    from edgewright.graph.kinds import KINDS
    from edgewright.graph.picture import svg

    timed = {row.name: row.microseconds for row in found.nodes if row.microseconds is not None}
    shares = {name: time / found.times.total for name, time in timed.items()} if found.times.total else {}
    script = _text("inspect.js")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("edgewright.report"), autoescape=True)
    environment.filters |= {"size": size, "count": count}
    return environment.get_template("inspect.html.jinja").render(
        found=found,
        picture=svg(model, {row.name: _note(row) for row in found.nodes}, shares),
        slowest=sorted((r for r in found.nodes if r.microseconds), key=lambda r: -(r.microseconds or 0))[:_SLOWEST],
        kinds=["input", *KINDS, "other", "output"],
        css=_text("inspect.css"),
        script=script,
        script_hash=_hash(script),
        version=edgewright.__version__,
    )


def size(number: float) -> str:
    """Returns bytes for a reader: 3.66 MB (powers of 1000)."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= divisor:
            return f"{number / divisor:.3g} {unit}"
    return f"{number:.0f} B"


def count(number: float) -> str:
    """Returns a count for a reader: 904 k, 522 M, 4.1 G."""
    for unit, divisor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= divisor:
            return f"{number / divisor:.3g} {unit}"
    return f"{number:.0f}"


def _note(row: NodeRow) -> str:
    parts = [f"MACs {count(row.macs)}"] if row.macs else []
    parts += [f"parameters {count(row.parameters)}"] if row.parameters else []
    parts += [f"measured {row.microseconds:.0f} µs"] if row.microseconds is not None else []
    parts += [f"runs in the kernel of {row.fused_into}"] if row.fused_into else []
    return "; ".join(parts)


def _text(name: str) -> str:
    return (files("edgewright.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
