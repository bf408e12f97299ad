"""Writes the chosen states into the graph."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.channels_last.constants import is_constant
from edgewright.graph.channels_last.editing import Edit
from edgewright.graph.channels_last.layouts import identity
from edgewright.graph.channels_last.marks import INNER, NAME, PERM, mark
from edgewright.graph.channels_last.problem import Problem, border
from edgewright.graph.channels_last.spatial import spatial_state
from edgewright.graph.shapes import static_shape

DOMAIN = "edgewright.channels_last"


def rewrite(graph: ir.Graph, problem: Problem, inputs: frozenset[str], outputs: frozenset[str]) -> None:
    """Rewrites every node to its state, in place."""
    edit = Edit(graph)
    for value in graph.inputs:
        if problem.wire(value) is not None and not border(value, inputs).plain:
            edit.settle(value, border(value, inputs))
    for index in range(len(problem.sites)):
        _rewrite_node(problem, index, edit)
    _serve_subgraphs(graph, problem, edit)
    for position, value in enumerate(graph.outputs):
        if problem.wire(value) is not None:
            _serve_output(graph, position, value, edit, outputs)


def _rewrite_node(problem: Problem, index: int, edit: Edit) -> None:
    site, state, rule = problem.sites[index], problem.states[index], problem.rules[index]
    node = site.node
    if all(is_constant(value) for value in node.outputs):
        return
    moved = spatial_state(site) is not None
    for position, (value, want) in enumerate(zip(node.inputs, state.takes, strict=True)):
        if value is not None and want is not None:
            quantises = node.op_type == "QuantizeLinear" and position == 0
            fetched = edit.fetch(value, want, node.name or node.op_type, quantises=quantises)
            if fetched is not value:
                node.replace_input_with(position, fetched)
    if rule is not None and node.op_type == "Transpose":
        source, layout = node.inputs[0], state.gives[0]
        assert source is not None
        assert layout is not None
        edit.rename(node.outputs[0], source, layout)
        return
    if moved:
        node.domain = DOMAIN
    elif rule is not None:
        rule.rewrite(site, state, edit)
    for value, layout in zip(node.outputs, state.gives, strict=True):
        edit.settle(value, layout)


def _serve_subgraphs(graph: ir.Graph, problem: Problem, edit: Edit) -> None:
    """Gives subgraphs, which stay as they are, the values they take from outside."""
    values = [value for site in problem.sites for value in site.node.outputs]
    for value in (*graph.inputs, *values):
        for use in list(value.uses()):
            if use.node.graph is not graph and problem.wire(value) is not None:
                plain = identity(len(edit.held(value)[1].order))
                use.node.replace_input_with(use.idx, edit.fetch(value, plain, use.node.name or ""))


def _serve_output(graph: ir.Graph, position: int, value: ir.Value, edit: Edit, moved: frozenset[str]) -> None:
    """Gives an output of the graph its name and its layout."""
    name, want = value.name or "", border(value, moved)
    source, have = edit.held(value)
    if want == have and source is value:
        return
    served = edit.fetch(value, want, name)
    if served.is_graph_input() or served.is_graph_output() or is_constant(served):
        served = _copied(graph, served, name)
    elif served.name and not served.name.startswith(name + "/"):
        served.metadata_props[NAME] = served.name
    dtype, shape = value.dtype, static_shape(served) or ()
    value.metadata_props[NAME] = name
    value.name = f"{name}/stored" if source is value else f"{name}/before"
    graph.outputs[position] = served
    served.name, served.shape = name, ir.Shape(shape)
    if dtype is not None:
        served.type = ir.TensorType(dtype)
    for said in (PERM, INNER):
        served.metadata_props.pop(said, None)
    if not want.plain:
        mark(served, want)


def _copied(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    node = ir.Node("", "Identity", [value], name=f"{name}/copy")
    node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
    graph.append(node)
    return node.outputs[0]
