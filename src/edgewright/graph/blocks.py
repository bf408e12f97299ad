"""Blocks of a quantised graph whose weights are rounded together: a residual unit, or a single layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.graph.bias import stored_weights
from edgewright.graph.placement import WEIGHTED, after_fused
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, is_constant

MOST_LAYERS = 4
"""Layers of a block that are rounded together; more are taken one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A part of a graph between the tensors it reads and the one it is judged by.

    Attributes:
        layers: Operators with stored integer weights, in graph order.
        inputs: Activations read from outside.
        output: Float tensor before its quantiser; the float graph has one of the same name.
    """

    layers: tuple[ir.Node, ...]
    inputs: tuple[ir.Value, ...]
    output: ir.Value


def blocks_of(graph: ir.Graph, most_layers: int = MOST_LAYERS) -> tuple[Block, ...]:
    """Returns the blocks of `graph`, in its order; every layer with stored weights is in one of them.

    A block reaches from one tensor that every path passes to the next; one with more than `most_layers` layers (or
    with `most_layers` 1) falls apart into its layers.
    """
    found: list[Block] = []
    for segment in _segments(graph):
        layers = [node for node in segment if node.op_type in WEIGHTED and stored_weights(node) is not None]
        whole = _block(layers, segment) if 1 < len(layers) <= most_layers else None
        found.extend([whole] if whole is not None else map(_single, layers))
    return tuple(found)


def _single(layer: ir.Node) -> Block:
    end = after_fused(layer.outputs[0], ("Relu", "Clip"))
    inside = [layer] if end is layer.outputs[0] else [layer, _made_by(end)]
    return Block((layer,), tuple(_read_from_outside(inside)), end)


def _block(layers: Sequence[ir.Node], segment: Sequence[ir.Node]) -> Block | None:
    """Returns the block of a whole segment; None where it reads or gives more than one activation."""
    inputs = _read_from_outside(segment)
    mine = set(segment)
    leaving = {v for node in segment for v in node.outputs if v.is_graph_output() or _used_outside(v, mine)}
    if len(inputs) != 1 or len(leaving) != 1:
        return None
    return Block(tuple(layers), tuple(inputs), before_quantiser(leaving.pop()))


def before_quantiser(value: ir.Value) -> ir.Value:
    """Returns the tensor that a dequantised `value` was quantised from, or `value` itself."""
    node = value.producer()
    while node is not None and node.op_type in (QUANTIZE, DEQUANTIZE) and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _segments(graph: ir.Graph) -> list[list[ir.Node]]:
    """Cuts the nodes, in order, wherever a single activation is all that later nodes read."""
    order = {node: index for index, node in enumerate(graph)}
    last: dict[ir.Value, int] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and not is_constant(value) and not _stored(value):
                last[value] = order[node]
    live: set[ir.Value] = {v for v in graph.inputs if v in last}
    segments: list[list[ir.Node]] = [[]]
    for node in graph:
        segments[-1].append(node)
        live.update(v for v in node.outputs if v in last and not _stored(v))
        live = {v for v in live if last[v] > order[node]}
        if len(live) == 1 and next(iter(live)) in node.outputs and node.op_type == DEQUANTIZE:
            segments.append([])
    return segments


def _stored(value: ir.Value) -> bool:
    """Says whether `value` is made of constants alone."""
    node = value.producer()
    return node is not None and node.op_type == DEQUANTIZE and is_constant(node.inputs[0])


def _read_from_outside(nodes: Sequence[ir.Node]) -> list[ir.Value]:
    made = {v for node in nodes for v in node.outputs}
    read = [v for node in nodes for v in node.inputs if v is not None and v not in made]
    return [v for v in dict.fromkeys(read) if not is_constant(v) and not _stored(v)]


def _used_outside(value: ir.Value, nodes: set[ir.Node]) -> bool:
    return any(use.node not in nodes for use in value.uses())


def _made_by(value: ir.Value) -> ir.Node:
    node = value.producer()
    assert node is not None
    return node
