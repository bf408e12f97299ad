"""Quantisers moved past operators that move values or pick among them, so that integer regions stay whole.

A Transpose between a DequantizeLinear and a convolution, put there by an exporter, a lowering or the layout, would
tear an integer region apart. Operators that only move or pick values give the same numbers on integers as on what these
stand for, so the quantiser of one side may be said on the other as well. Nothing is rounded that was not before.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgewright.graph.edges import given, insert_before, insert_behind, quantised_as, wanted

Data = Callable[[ir.Node], tuple[int, ...]]
"""Returns the indices of the inputs that a node moves or picks values of; empty for a node that does neither."""
_ROUNDS = 50


def propagate(graph: ir.Graph, moves: Data, picks: Data) -> int:
    """Says the quantisers on one side of data movement on the other side too, in place.

    Args:
        graph: With quantisers, shapes known.
        moves: For operators that give values they read and no others: quantisers pass in both directions.
        picks: For operators that keep the order of numbers, such as Relu and Max: rounding before or after is the same
            when both sides have the same parameters, so quantisers pass from the result to what is read.

    Returns:
        How many pairs were put in.
    """
    count = 0
    for _ in range(_ROUNDS):
        made = sum(_forward(graph, node, moves(node)) for node in list(graph))
        made += sum(_backward(graph, node, moves(node) or picks(node)) for node in reversed(list(graph)))
        count += made
        if not made:
            break
    return count


def _forward(graph: ir.Graph, node: ir.Node, data: tuple[int, ...]) -> int:
    read = {given(node.inputs[index]) for index in data}
    params = read.pop() if len(read) == 1 else None
    count = 0
    if params is not None:
        for value in node.outputs:
            if _real(value) and value.name and quantised_as(value) != (params,):
                insert_behind(graph, value, params)
                count += 1
    return count


def _backward(graph: ir.Graph, node: ir.Node, data: tuple[int, ...]) -> int:
    results = {wanted(value) for value in node.outputs if _real(value) and value.uses()}
    params = results.pop() if len(results) == 1 else None
    count = 0
    if params is not None:
        for index in data:
            value = node.inputs[index]
            if value is not None and _real(value) and given(value) != params:
                insert_before(graph, node, index, params)
                count += 1
    return count


def _real(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT
