"""Layout of a whole graph: spatial operators channels-last, and as few bytes moved as possible.

Every node has some states: which layouts it takes and gives. A convolution has one, [N, spatial..., C]; an operator
that treats all elements alike has one per layout; Reshape has those in which nothing tears apart; what is unknown stays
as ONNX has it. A Transpose of the original graph is no operator at all here, only a change of names. Where a value is
given in one layout and taken in another, it is moved, at the price of its bytes, once per layout. `solving` finds the
states of least price; `rewriting` writes them into the graph.

A rule per operator and one price, instead of patterns that push and cancel: a local rewrite that pays only after others
(through a squeeze-and-excitation block, a shuffle, a head with four reshapes) is found as well, and where a move cannot
be avoided it ends where the least bytes pass, as integers where the graph is quantised.
"""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.channels_last.lowering import lowered
from edgewright.graph.channels_last.marks import INNER, NAME, PERM, order_of, original
from edgewright.graph.channels_last.problem import Problem
from edgewright.graph.channels_last.rewriting import DOMAIN, rewrite
from edgewright.graph.channels_last.solving import solve
from edgewright.graph.channels_last.tidying import constants_as_initialisers, tidy

__all__ = ["DOMAIN", "INNER", "NAME", "PERM", "lowered", "order_of", "original", "to_channels_last"]


def to_channels_last(
    model: ir.Model, moved_inputs: frozenset[str] = frozenset(), moved_outputs: frozenset[str] = frozenset()
) -> None:
    """Solves the layout of the main graph, in place.

    Afterwards spatial operators of rank 3 to 5 stand in domain `DOMAIN`: their data input (the first) and their output
    are [N, spatial..., C], their weights and parameters (also scales and sizes of Resize) stay in ONNX order. All other
    operators are plain ONNX. Values keep their names; `PERM` and `INNER` in `metadata_props` tell how they are stored
    (`original` undoes it). Values without a fixed shape, and subgraphs, stay as they are.

    Args:
        model: Its shapes are inferred; those of values are kept right.
        moved_inputs: Inputs of the graph that become channels-last themselves.
        moved_outputs: Outputs likewise.
    """
    constants_as_initialisers(model)
    graph = model.graph
    problem = Problem(
        graph, model.opset_imports.get("") or model.opset_imports.get("ai.onnx", 0), moved_inputs, moved_outputs
    )
    solve(problem)
    rewrite(graph, problem, moved_inputs, moved_outputs)
    tidy(model)
    if any(node.domain == DOMAIN for node in graph):
        model.opset_imports[DOMAIN] = 1
