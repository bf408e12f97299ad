"""A graph as an SVG picture: one box per node, coloured by kind, with shapes and times as tooltips."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import onnx_ir as ir

from edgewright.graph.kinds import kind_of
from edgewright.graph.layout import HEIGHT, WIDTH, Layout, Point, lay_out
from edgewright.graph.load import dtype_name

_TEXT_LIMIT = 20
_TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True, slots=True)
class _Box:
    kind: str
    label: str
    detail: str
    tooltip: str
    share: float = 0.0
    own: str = ""


def svg(
    model: ir.Model,
    notes: Mapping[str, str] | None = None,
    shares: Mapping[str, float] | None = None,
    classes: Mapping[str, str] | None = None,
) -> str:
    """Draws the main graph of `model`; constants are left out.

    Args:
        model: With inferred shapes.
        notes: Node name -> text for its tooltip, e.g. its measured time.
        shares: Node name -> share of the run time, 0 to 1, drawn as a bar.
        classes: Node name -> class of its own that a style sheet colours, e.g. its precision.

    Returns:
        An `<svg>` element whose classes `kind-...` a style sheet colours.

    Raises:
        ToolchainMissing: grandalf is not installed.
    """
    nodes = [node for node in model.graph if node.op_type != "Constant"]
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    boxes = [
        *(_terminal("input", v) for v in inputs),
        *(_box(n, notes or {}, shares or {}, classes or {}) for n in nodes),
    ]
    boxes += [_terminal("output", value) for value in model.graph.outputs]
    makers: dict[ir.Value, int] = {value: index for index, value in enumerate(inputs)}
    makers |= {value: len(inputs) + index for index, node in enumerate(nodes) for value in node.outputs}
    edges: dict[tuple[int, int], ir.Value] = {}
    for index, node in enumerate(nodes):
        edges |= {(makers[v], len(inputs) + index): v for v in node.inputs if v is not None and v in makers}
    first = len(inputs) + len(nodes)
    edges |= {(makers[v], first + index): v for index, v in enumerate(model.graph.outputs) if v in makers}
    return _render(lay_out(len(boxes), list(edges)), boxes, edges)


def _render(layout: Layout, boxes: Sequence[_Box], edges: Mapping[tuple[int, int], ir.Value]) -> str:
    width, height = round(layout.width), round(layout.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" role="img" aria-label="graph of the model" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    ]
    lines += [_edge(layout.routes[edge], value) for edge, value in edges.items() if edge in layout.routes]
    lines += [_node(centre, box) for centre, box in zip(layout.centres, boxes, strict=True)]
    return "\n".join([*lines, "</svg>"])


def _edge(points: Sequence[Point], value: ir.Value) -> str:
    (x0, y0), (x1, y1) = points[0], points[-1]
    path = [(x0, y0 + HEIGHT / 2), *points[1:-1], (x1, y1 - HEIGHT / 2)]
    start = f"M{path[0][0]:.0f} {path[0][1]:.0f}"
    curves = []
    for (ax, ay), (bx, by) in itertools.pairwise(path):
        middle = (ay + by) / 2
        curves.append(f"C{ax:.0f} {middle:.0f} {bx:.0f} {middle:.0f} {bx:.0f} {by:.0f}")
    return f'<path class="edge" d="{start}{"".join(curves)}"><title>{escape(_described(value))}</title></path>'


def _node(centre: Point, box: _Box) -> str:
    left, top = centre[0] - WIDTH / 2, centre[1] - HEIGHT / 2
    bar = f'<rect class="bar" x="0" y="{HEIGHT - 4:.0f}" width="{WIDTH * min(box.share, 1):.1f}" height="4"/>'
    return (
        f'<g class="{_classes(box)}" transform="translate({left:.0f} {top:.0f})">'
        f"<title>{escape(box.tooltip)}</title>"
        f'<rect class="box" width="{WIDTH:.0f}" height="{HEIGHT:.0f}" rx="5"/>{bar if box.share else ""}'
        f'<text class="op" x="{WIDTH / 2:.0f}" y="14">{escape(_short(box.label))}</text>'
        f'<text class="detail" x="{WIDTH / 2:.0f}" y="26">{escape(_short(box.detail, 24))}</text></g>'
    )


def _classes(box: _Box) -> str:
    kind = f"node kind-{box.kind.replace(' ', '-')}"
    return f"{kind} {escape(box.own)}" if box.own else kind


def _box(node: ir.Node, notes: Mapping[str, str], shares: Mapping[str, float], classes: Mapping[str, str]) -> _Box:
    name = node.name or ""
    lines = [f"{node.op_type}  {name}"]
    lines += [f"in   {_described(value)}" for value in node.inputs if value is not None]
    lines += [f"out  {_described(value)}" for value in node.outputs]
    lines += [f"{a.name} = {_attribute(a)}" for a in node.attributes.values() if isinstance(a, ir.Attr)]
    if name in notes:
        lines.append(notes[name])
    share = shares.get(name, 0.0)
    detail = _dims(node.outputs[0]) if node.outputs else ""
    detail = f"{detail} · {share:.1%}" if share >= 0.001 else detail
    return _Box(kind_of(node.op_type), node.op_type, detail, "\n".join(lines), share, classes.get(name, ""))


def _terminal(kind: str, value: ir.Value) -> _Box:
    return _Box(kind, value.name or kind, _dims(value), f"{kind}  {_described(value)}")


def _described(value: ir.Value) -> str:
    return f"{value.name}: {dtype_name(value.dtype)}[{_dims(value)}]"


def _dims(value: ir.Value) -> str:
    if value.shape is None:
        return "?"
    return _TIMES.join(str(d) if isinstance(d, int) else (d.value or "?") for d in value.shape) or "scalar"


def _attribute(attribute: ir.Attr) -> str:
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "a graph"
    return _short(str(attribute.value), 80)


def _short(text: str, limit: int = _TEXT_LIMIT) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
