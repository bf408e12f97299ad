"""The channels-last domain back in plain ONNX, for runtimes that know ONNX only."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.channels_last.layouts import channels_last
from edgewright.graph.channels_last.rewriting import DOMAIN
from edgewright.graph.shapes import static_shape


def lowered(model: ir.Model) -> ir.Model:
    """Returns a copy in which every channels-last operator is the ONNX operator between two Transposes."""
    copy = model.clone()
    for node in list(copy.graph):
        if node.domain == DOMAIN:
            _lower(copy.graph, node)
    copy.opset_imports.pop(DOMAIN, None)
    return copy


def _lower(graph: ir.Graph, node: ir.Node) -> None:
    given, out = node.inputs[0], node.outputs[0]
    assert given is not None
    shape = static_shape(given) or ()
    rank = len(shape)
    first = (0, rank - 1, *range(1, rank - 1))
    before = ir.Node("", "Transpose", [given], {"perm": ir.AttrInt64s("perm", first)}, name=f"{node.name}/turned_first")
    before.outputs[0].name, before.outputs[0].type = f"{given.name}/{node.name}/turned_first", given.type
    before.outputs[0].shape = ir.Shape([shape[axis] for axis in first])
    graph.insert_before(node, [before])
    node.replace_input_with(0, before.outputs[0])
    last = channels_last(rank).order
    after = ir.Node("", "Transpose", [out], {"perm": ir.AttrInt64s("perm", last)}, name=f"{node.name}/turned_last")
    graph.insert_after(node, [after])
    _take_over(out, after, first)
    node.domain = ""


def _take_over(out: ir.Value, after: ir.Node, first: tuple[int, ...]) -> None:
    """Hands readers, name and shape of `out` to what stands behind it now."""
    new = after.outputs[0]
    for use in list(out.uses()):
        if use.node is not after:
            use.node.replace_input_with(use.idx, new)
    graph = after.graph
    assert graph is not None
    shape = static_shape(out) or ()
    for position, value in enumerate(graph.outputs):
        if value is out:
            graph.outputs[position] = new
    new.shape, new.type, new.name = out.shape, out.type, out.name
    new.metadata_props.update(out.metadata_props)
    out.name, out.shape = f"{new.name}/made_first", ir.Shape([shape[axis] for axis in first])
