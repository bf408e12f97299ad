"""Where the nodes of a graph go on paper: layers from top to bottom (Sugiyama, Tagawa and Toda, 1981; grandalf)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.errors import ToolchainMissing

WIDTH, HEIGHT = 132.0, 34.0
_GAP_X, _GAP_Y = 18.0, 26.0
MAX_NODES = 2000
"""Larger graphs are laid out one node per line: layering them takes minutes and nobody reads the picture."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing, in pixels; y grows downwards.

    Attributes:
        centres: One per node.
        routes: Edge (from, to) -> its points, ends included.
        width: Of the whole.
        height: Of the whole.
    """

    centres: tuple[Point, ...]
    routes: Mapping[tuple[int, int], tuple[Point, ...]]
    width: float
    height: float


def lay_out(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Places `count` nodes.

    Args:
        count: Nodes are numbered from 0.
        edges: From, to; without cycles.

    Raises:
        ToolchainMissing: grandalf is not installed.
    """
    unique = list(dict.fromkeys(edge for edge in edges if edge[0] != edge[1]))
    if count > MAX_NODES:
        return _column(count, unique)
    centres, routes = _layered(count, unique)
    return _shifted(centres, routes)


def _layered(count: int, edges: Sequence[tuple[int, int]]) -> tuple[list[Point], dict[tuple[int, int], list[Point]]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from grandalf.graphs import Edge, Graph, Vertex
            from grandalf.layouts import SugiyamaLayout
    except ImportError as error:
        raise ToolchainMissing("the picture needs grandalf", hint='pip install "edgewright[build]"') from error
    state = random.getstate()
    random.seed(0)  # grandalf shuffles; the same model gives the same picture
    try:
        vertices = [Vertex(index) for index in range(count)]
        for vertex in vertices:
            vertex.view = _Box()
        links = [Edge(vertices[a], vertices[b]) for a, b in edges]
        for link in links:
            link.view = _Route()
        centres: list[Point] = [(0.0, 0.0)] * count
        left = 0.0
        for component in Graph(vertices, links).C:
            sugiyama = SugiyamaLayout(component)
            sugiyama.xspace, sugiyama.yspace = _GAP_X, _GAP_Y
            sugiyama.init_all(inverted_edges=[])  # there is no cycle; looking for one recurses per node
            sugiyama.draw(3)
            left = _collect(component, left, centres)
    finally:
        random.setstate(state)
    return centres, {edge: list(link.view.points) for edge, link in zip(edges, links, strict=True)}


class _Box:
    """What grandalf needs to know about a node: its size; it sets `xy`."""

    def __init__(self) -> None:
        self.w, self.h = WIDTH, HEIGHT
        self.xy: Point = (0.0, 0.0)


class _Route:
    """What grandalf tells about an edge: its points."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def setpath(self, points: Sequence[Point]) -> None:
        """Called by grandalf."""
        self.points = list(points)


def _collect(component: Any, left: float, centres: list[Point]) -> float:
    """Moves one component right of the ones before it and returns the free position after it."""
    vertices = list(component.sV)
    shift = left - min(vertex.view.xy[0] for vertex in vertices)
    for vertex in vertices:
        x, y = vertex.view.xy
        centres[vertex.data] = (x + shift, y)
    for edge in component.sE:
        edge.view.points = [(x + shift, y) for x, y in edge.view.points]
    return float(max(centres[vertex.data][0] for vertex in vertices) + WIDTH + 3 * _GAP_X)


def _shifted(centres: Sequence[Point], routes: Mapping[tuple[int, int], Sequence[Point]]) -> Layout:
    points = [*centres, *(point for route in routes.values() for point in route)] or [(0.0, 0.0)]
    left = min(x for x, _ in points) - WIDTH
    top = min(y for _, y in points) - HEIGHT
    moved = {edge: tuple((x - left, y - top) for x, y in route) for edge, route in routes.items()}
    width = max(x for x, _ in points) - left + WIDTH
    height = max(y for _, y in points) - top + HEIGHT
    return Layout(tuple((x - left, y - top) for x, y in centres), moved, width, height)


def _column(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    centres = [(0.0, index * (HEIGHT + _GAP_Y)) for index in range(count)]
    return _shifted(centres, {edge: [centres[edge[0]], centres[edge[1]]] for edge in edges})
