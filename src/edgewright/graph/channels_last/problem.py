"""The graph as a labelling problem: which state every node works in, and what the moves between them cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgewright.graph.channels_last.constants import dequantised, is_constant
from edgewright.graph.channels_last.layouts import Layout, Shape, channels_last, identity, key
from edgewright.graph.channels_last.sites import Rule, Site, State, site_of, standing
from edgewright.graph.channels_last.spatial import spatial_state
from edgewright.graph.channels_last.table import rule_for
from edgewright.graph.shapes import static_shape

_OPERATOR = 2048
"""Bytes that starting one more operator is worth."""
_RENAMING = 16
"""The same for a reshape, which moves nothing."""
_NEVER = 1 << 40
"""A move between a QuantizeLinear and its DequantizeLinear would part them."""
_FLOAT_BEFORE_QUANTISER = 8
"""A move there takes the quantiser away from the operator whose output it is: that operator would run in float."""


@dataclass(slots=True)
class Wire:
    """A value that is computed, between the node that gives it and those that take it.

    Attributes:
        shape: In ONNX order.
        price: Bytes that a move costs.
        giver: Node and output; None for an input of the graph.
        fixed: Layout of an input of the graph.
        takers: Nodes and inputs.
        ends: Layouts in which the graph's outputs and subgraphs take it.
        quantised: Nodes among the takers that are quantisers of a value not in integers yet.
    """

    shape: Shape
    price: int
    giver: tuple[int, int] | None = None
    fixed: Layout | None = None
    takers: list[tuple[int, int]] = field(default_factory=list)
    ends: list[Layout] = field(default_factory=list)
    quantised: set[int] = field(default_factory=set)


class Problem:
    """Nodes with their states, and the wires between them.

    Attributes:
        sites: One per node, in the graph's order.
        rules: Likewise; None where the state is fixed.
        states: Likewise, chosen so far.
        wires: Of all values that are computed and whose shape is known.
        takes: Wire of every input of every node; None for constants.
        gives: Wire of every output.
    """

    def __init__(self, graph: ir.Graph, opset: int, inputs: frozenset[str], outputs: frozenset[str]) -> None:
        self.sites = [site_of(node, opset) for node in graph]
        self.rules: list[Rule | None] = []
        self.states: list[State] = []
        self.wires: list[Wire] = []
        self._of: dict[ir.Value, int] = {}
        for value in graph.inputs:
            if not is_constant(value) and value.name not in graph.initializers:
                self._open(value, fixed=border(value, inputs))
        for index, site in enumerate(self.sites):
            self._add(index, site)
        self.takes = [[self._of.get(v) if v is not None else None for v in s.node.inputs] for s in self.sites]
        self.gives = [[self._of.get(v) for v in s.node.outputs] for s in self.sites]
        self._connect(graph, outputs)

    def wire(self, value: ir.Value) -> Wire | None:
        """Returns the wire of a value, None for constants."""
        number = self._of.get(value)
        return None if number is None else self.wires[number]

    def cost(self, number: int, state: Callable[[int], State]) -> int:
        """Returns the bytes moved on one wire when nodes are in the states that `state` tells."""
        wire = self.wires[number]
        have = self.given(wire, state)
        if have is None:
            return 0
        held = None
        paid = dict[object, int]()
        for node, want in self.wanted(wire, state):
            if want is None or want == have:
                continue
            held = held or self.sort(wire, have)
            wished = self.sort(wire, want)
            price = _RENAMING if wished == held else self.price(wire, node) * (2 if _torn(have, want) else 1)
            paid[wished] = max(price, paid.get(wished, 0))
        return sum(paid.values())

    def sort(self, wire: Wire, layout: Layout) -> object:
        """Returns what layouts share between which nothing moves; around quantisers a reshape counts as a move."""
        return layout if wire.price == _NEVER or wire.quantised else key(layout, wire.shape)

    def price(self, wire: Wire, node: int | None) -> int:
        """Returns what a move of `wire` for `node` costs; None for the graph's outputs."""
        return wire.price * (_FLOAT_BEFORE_QUANTISER if node in wire.quantised else 1)

    def given(self, wire: Wire, state: Callable[[int], State]) -> Layout | None:
        """Returns the layout in which a wire comes."""
        return wire.fixed if wire.giver is None else state(wire.giver[0]).gives[wire.giver[1]]

    def wanted(self, wire: Wire, state: Callable[[int], State]) -> Iterator[tuple[int | None, Layout | None]]:
        """Yields who takes a wire (None: an output of the graph), and the layout wanted."""
        for node, index in wire.takers:
            yield node, state(node).takes[index]
        for layout in wire.ends:
            yield None, layout

    def touched(self, nodes: Sequence[int]) -> set[int]:
        """Returns the wires at `nodes`."""
        return {w for n in nodes for w in (*self.takes[n], *self.gives[n]) if w is not None}

    def _add(self, index: int, site: Site) -> None:
        constant = all(is_constant(value) for value in site.node.outputs)
        fixed = spatial_state(site)
        rule = None if constant or fixed is not None else rule_for(site)
        self.rules.append(rule)
        self.states.append(fixed or _first(site, rule))
        if not constant:
            for position, value in enumerate(site.node.outputs):
                self._open(value, giver=(index, position))

    def _open(self, value: ir.Value, giver: tuple[int, int] | None = None, fixed: Layout | None = None) -> None:
        shape = static_shape(value)
        if shape is not None:
            self._of[value] = len(self.wires)
            self.wires.append(Wire(shape, _price(value, shape), giver, fixed))

    def _connect(self, graph: ir.Graph, outputs: frozenset[str]) -> None:
        for index, numbers in enumerate(self.takes):
            for position, number in enumerate(numbers):
                if number is not None:
                    self._take(self.wires[number], index, position)
        for value in graph.outputs:
            if (wire := self.wire(value)) is not None:
                wire.ends.append(border(value, outputs))
        for value, number in self._of.items():
            if any(use.node.graph is not graph for use in value.uses()):
                self.wires[number].ends.append(identity(len(self.wires[number].shape)))

    def _take(self, wire: Wire, index: int, position: int) -> None:
        wire.takers.append((index, position))
        node = self.sites[index].node
        if node.op_type == "QuantizeLinear" and dequantised(node.inputs[0]) is None:  # type: ignore[arg-type]
            wire.quantised.add(index)


def border(value: ir.Value, moved: frozenset[str]) -> Layout:
    """Returns the layout of an input or output of the graph: ONNX order, channels-last where `moved` names it."""
    rank = len(static_shape(value) or ())
    both = value.is_graph_input() and value.is_graph_output()  # one name for two things: it stays
    return channels_last(rank) if value.name in moved and rank > 2 and not both else identity(rank)


def _torn(have: Layout, want: Layout) -> bool:
    """Says whether two layouts part one axis in different ways, so that a move goes by way of ONNX order."""
    sizes = {part.axis: part.sizes for part in have.inner}
    return any(sizes.get(part.axis, part.sizes) != part.sizes for part in want.inner)


def _first(site: Site, rule: Rule | None) -> State:
    here = standing(site)
    state = None if rule is None else rule.enter(site, 0, identity(len(site.takes[0] or ())), here)
    return state or here


def _price(value: ir.Value, shape: Shape) -> int:
    producer = value.producer()
    if producer is not None and producer.op_type == "QuantizeLinear":
        return _NEVER
    size = 1 if dequantised(value) is not None else value.dtype.itemsize if value.dtype is not None else 4
    return _OPERATOR + math.ceil(math.prod(shape) * size)
