"""Residual branches: parts that only add to what passes them by, and can be left out whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.graph.pruning.remove import remove
from edgewright.graph.shapes import refresh_shapes


@dataclass(frozen=True, slots=True)
class Branch:
    """What an Add takes beside the tensor that passes by.

    Attributes:
        name: `branch ` and the name of the Add.
        add: The Add that ends it.
        nodes: Nodes that go with it, the Add included.
    """

    name: str
    add: str
    nodes: tuple[str, ...]


def find_branches(model: ir.Model) -> tuple[Branch, ...]:
    """Returns every residual branch, in graph order.

    One input of its Add is computed from the other one and constants alone, has the same shape, and nothing else reads
    any part of it (He et al. 2015, an identity shortcut; Veit et al. 2016 on leaving such branches out).

    Args:
        model: With static shapes but for the batch, nodes named.
    """
    found = []
    for node in model.graph:
        ends = _ends(node, model.graph)
        if ends is not None:
            _, inside = ends
            found.append(
                Branch(f"branch {node.name}", node.name or "", (*(n.name or "" for n in inside), node.name or ""))
            )
    return tuple(found)


def remove_branches(model: ir.Model, names: Collection[str]) -> None:
    """Leaves branches out, in place: what read their Add reads what passed by.

    A Relu behind the Add goes too where what passed by comes from one: it would do nothing.
    """
    graph = model.graph
    for branch in find_branches(model):
        if branch.name not in names:
            continue
        add = next(node for node in graph if node.name == branch.add)
        ends = _ends(add, graph)
        if ends is None:  # went with a branch around it
            continue
        passed, inside = ends
        _replace(graph, add.outputs[0], passed)
        _drop_second_relu(graph, passed)
        for gone in (add, *reversed(inside)):
            graph.remove(gone, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
    refresh_shapes(model)


def smaller(model: ir.Model, kept: Mapping[str, Sequence[int]], gone: Collection[str] = ()) -> ir.Model:
    """Returns a copy of `model` with these channels of its groups alone, and without some residual branches.

    Args:
        model: As `prepare` leaves it.
        kept: As for `remove`.
        gone: Names of branches.
    """
    copy = model.clone()
    if kept:
        remove(copy, kept)
    if gone:
        remove_branches(copy, gone)
    return copy


def _ends(node: ir.Node, graph: ir.Graph) -> tuple[ir.Value, list[ir.Node]] | None:
    """Returns what passes by and the nodes of the branch, in graph order; None where `node` ends no branch."""
    if node.op_type != "Add" or node.domain not in ("", "ai.onnx") or node.outputs[0].is_graph_output():
        return None
    first, second = node.inputs
    for end, passed in ((first, second), (second, first)):
        if end is None or passed is None or not _alike(end, passed) or not _same(passed, node.outputs[0]):
            continue
        inside = _between(passed, end, node)
        if inside:
            return passed, [n for n in graph if n in inside]
    return None


def _alike(one: ir.Value, other: ir.Value) -> bool:
    return not one.is_initializer() and not other.is_initializer() and _same(one, other)


def _same(one: ir.Value, other: ir.Value) -> bool:
    return one.shape is not None and other.shape is not None and list(one.shape)[1:] == list(other.shape)[1:] != []


def _between(passed: ir.Value, end: ir.Value, add: ir.Node) -> set[ir.Node] | None:
    """Returns the nodes that compute `end` from `passed` and constants, where nothing else reads them."""
    inside: set[ir.Node] = set()
    waiting = [end]
    while waiting:
        value = waiting.pop()
        if value is passed or value.is_initializer():
            continue
        producer = value.producer()
        if producer is None:
            return None
        if producer not in inside:
            inside.add(producer)
            waiting += [given for given in producer.inputs if given is not None]
    for node in inside:
        for value in node.outputs:
            readers = {use.node for use in value.uses()}
            if value.is_graph_output() or not readers <= inside | {add}:
                return None
    return inside


def _replace(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    for use in list(old.uses()):
        use.node.replace_input_with(use.idx, new)


def _drop_second_relu(graph: ir.Graph, passed: ir.Value) -> None:
    producer = passed.producer()
    if producer is None or producer.op_type != "Relu":
        return
    for use in list(passed.uses()):
        node = use.node
        if node.op_type == "Relu" and not node.outputs[0].is_graph_output():
            _replace(graph, node.outputs[0], passed)
            graph.remove(node, safe=True)
