"""Completes what a runtime says about the origin of its nodes along the edges of the source graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from edgewright.core.target import NodePlacement
from edgewright.targets._intent import WEIGHTED, is_constant

_LEADS = WEIGHTED | {"DequantizeLinear"}
"""Others are fused into these from behind, so they belong to what follows them, not to what precedes them."""


def spread(model: ir.Model, known: Mapping[str, str]) -> dict[str, str]:
    """Gives every source node that nothing is known about to the owner of a neighbour.

    An activation, batch norm or quantiser was fused into what computes its input; a node with weights, or a
    dequantiser, into what its output feeds. Nodes of constants only are folded away and stay without owner.

    Args:
        model: The source graph, its nodes named.
        known: Source node -> runtime node.
    """
    owner = dict(known)
    for node in model.graph:
        if node.name not in owner and node.op_type not in _LEADS:
            _adopt(owner, node, (value.producer() for value in node.inputs if value is not None))
    for node in reversed(list(model.graph)):
        if node.name not in owner and not _folded(node):
            _adopt(owner, node, (use.node for value in node.outputs for use in value.uses()))
    return owner


def traced(model: ir.Model, found: Sequence[NodePlacement]) -> list[NodePlacement]:
    """Adds the nodes of the model that went into none by name, such as one that was folded into its neighbour."""
    order = {node.name or "": index for index, node in enumerate(model.graph)}
    found = [replace(node, source=tuple(s for s in node.source if s in order)) for node in found]
    owner = spread(model, {source: node.node for node in reversed(found) for source in node.source})
    lost: dict[str, list[str]] = {}
    for source, node in owner.items():
        lost.setdefault(node, []).append(source)
    return [
        replace(node, source=tuple(sorted({*node.source, *lost.get(node.node, ())}, key=order.__getitem__)))
        for node in found
    ]


def _adopt(owner: dict[str, str], node: ir.Node, around: Iterable[ir.Node | None]) -> None:
    for other in around:
        if other is not None and other.name in owner:
            owner[node.name or ""] = owner[other.name]
            return


def _folded(node: ir.Node) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    return node.op_type != "DequantizeLinear" and all(map(is_constant, inputs))
