"""Detection heads that join flattened maps and turn channels last in the end: each map is turned before it is joined.

`Transpose(Concat(Reshape(maps)), (0, 2, 1))` equals `Concat(Reshape(Transpose(map, (0, 2, 3, 1))))`, exactly: both only
move data. Runtimes that keep maps channels-last inside then have nothing to move for the inner transposes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgewright.graph.initializers import add_initializer


def turn_maps_first(graph: ir.Graph) -> int:
    """Rewrites every such head, in place; needs inferred shapes.

    Returns:
        How many heads were rewritten.
    """
    return sum(_rewrite(graph, node) for node in list(graph) if _turns_last(node))


def _rewrite(graph: ir.Graph, last: ir.Node) -> bool:
    joined = _only_used_by(graph, last.inputs[0], "Concat")
    if joined is None or joined.attributes.get_int("axis", 0) not in (2, -1):
        return False
    maps = [_flattened_map(graph, value) for value in joined.inputs]
    channels = {shape[1] for found in maps if found is not None and (shape := _map_shape(found)) is not None}
    if len(maps) < 2 or len(channels) != 1 or any(found is None or _map_shape(found) is None for found in maps):
        return False
    _replace(graph, last, [found for found in maps if found is not None], channels.pop())
    return True


def _replace(graph: ir.Graph, last: ir.Node, maps: Sequence[ir.Value], channels: int) -> None:
    old = last.outputs[0]
    shape = np.array([0, -1, channels], dtype=np.int64)  # 0 keeps the batch
    made: list[ir.Node] = []
    for index, value in enumerate(maps):
        rows = add_initializer(graph, f"{old.name}/rows_{index}", shape)
        turned = ir.node("Transpose", [value], {"perm": [0, 2, 3, 1]}, name=f"{last.name}/turn_{index}")
        flat = ir.node("Reshape", [turned.outputs[0], rows], name=f"{last.name}/flatten_{index}")
        made += [turned, flat]
    joined = ir.node("Concat", [node.outputs[0] for node in made[1::2]], {"axis": 1}, name=f"{last.name}/join")
    new = joined.outputs[0]
    graph.insert_before(last, [*made, joined])
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.shape, new.type, new.name, old.name = old.shape, old.type, old.name, f"{old.name}/before"
    graph.remove(last, safe=True)


def _flattened_map(graph: ir.Graph, value: ir.Value | None) -> ir.Value | None:
    """Returns the map [N, C, H, W] of which `value` is [N, C, H * W], None where it is something else."""
    node = _only_used_by(graph, value, "Reshape")
    source = node.inputs[0] if node is not None else None
    before = _map_shape(source)
    after = tuple(value.shape) if value is not None and value.shape is not None else ()
    if source is None or before is None or len(before) != 4 or len(after) != 3:
        return None
    return source if after[1:] == (before[1], before[2] * before[3]) else None


def _map_shape(value: ir.Value | None) -> tuple[int, int, int, int] | None:
    """Returns the shape of a map whose axes behind the batch are known (a free batch counts as 1), else None."""
    if value is None or value.shape is None or len(value.shape) != 4:
        return None
    batch, *tail = (axis if isinstance(axis, int) else 0 for axis in value.shape)
    return (batch or 1, *tail) if all(axis > 0 for axis in tail) else None  # type: ignore[return-value]


def _only_used_by(graph: ir.Graph, value: ir.Value | None, op_type: str) -> ir.Node | None:
    """Returns the `op_type` node that makes `value` where exactly one node reads it and it is no output."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != op_type or node.domain not in ("", "ai.onnx"):
        return None
    return node if len(value.uses()) == 1 and not any(value is output for output in graph.outputs) else None


def _turns_last(node: ir.Node) -> bool:
    return node.op_type == "Transpose" and tuple(node.attributes.get_ints("perm") or ()) == (0, 2, 1)
