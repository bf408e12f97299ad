"""Names of nodes: what `keep_float`, placements and profiles refer to."""

from __future__ import annotations

import onnx_ir as ir


def name_nodes(graph: ir.Graph) -> None:
    """Gives every node, subgraphs included, a name that is unique in the model; names that are unique already stay."""
    taken: set[str] = set()
    for node in graph.all_nodes():
        base = node.name or f"{node.op_type}_{node.outputs[0].name}"
        name, count = base, 1
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        node.name = name
        taken.add(name)
