"""The picture is well-formed, complete, escaped and repeatable."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx_ir as ir
import pytest

from edgewright.graph.kinds import KINDS, kind_of
from edgewright.graph.layout import HEIGHT, MAX_NODES, WIDTH, lay_out
from edgewright.graph.load import load
from edgewright.graph.picture import svg
from edgewright.graph.shapes import bind_axes

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def model(conv_file: Path) -> ir.Model:
    return bind_axes(load(conv_file), {})


def test_every_node_and_edge_is_drawn(model: ir.Model) -> None:
    root = ET.fromstring(svg(model, {"conv": "measured 12"}, {"conv": 0.5}))
    nodes = [g for g in root.iter(f"{SVG}g") if "node" in g.get("class", "")]
    assert len(nodes) == 5 + 2
    assert len(list(root.iter(f"{SVG}path"))) == 6
    conv = next(g for g in nodes if "measured 12" in (g.findtext(f"{SVG}title") or ""))
    assert "kind-product" in conv.get("class", "")
    bar = next(r for r in conv.iter(f"{SVG}rect") if r.get("class") == "bar")
    assert float(bar.get("width", "0")) == WIDTH / 2


def test_names_cannot_break_out_of_the_picture(model: ir.Model) -> None:
    next(iter(model.graph)).name = '"><script>alert(1)</script>'
    drawn = svg(model)
    assert "<script" not in drawn
    ET.fromstring(drawn)


def test_the_same_graph_gives_the_same_picture(model: ir.Model) -> None:
    before = random.getstate()
    first = svg(model)
    assert random.getstate() == before
    random.random()
    assert svg(model) == first


def test_boxes_do_not_overlap_and_edges_point_down() -> None:
    edges = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 5), (4, 5), (0, 5), (6, 7)]
    layout = lay_out(8, edges)
    for i, (x0, y0) in enumerate(layout.centres):
        assert WIDTH / 2 <= x0 <= layout.width - WIDTH / 2
        assert HEIGHT / 2 <= y0 <= layout.height - HEIGHT / 2
        for x1, y1 in layout.centres[i + 1 :]:
            assert abs(x0 - x1) >= WIDTH or abs(y0 - y1) >= HEIGHT
    assert all(layout.centres[a][1] < layout.centres[b][1] for a, b in edges)
    assert all(route[0] == layout.centres[a] for (a, _), route in layout.routes.items())


def test_a_huge_graph_is_still_drawn_quickly() -> None:
    count = MAX_NODES + 1
    layout = lay_out(count, [(i, i + 1) for i in range(count - 1)])
    assert len(layout.centres) == count


def test_no_operator_has_two_kinds() -> None:
    listed = [op for ops in KINDS.values() for op in ops]
    assert len(listed) == len(set(listed))
    assert kind_of("NoSuchOperator") == "other"
