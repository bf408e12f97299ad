"""The hub graph as ExecuTorch wants it: fixed sizes, quantisers on both sides of what moves integers."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.edges import quantised_as
from edgewright.graph.names import name_nodes
from edgewright.graph.placement import WEIGHTED, data_inputs
from edgewright.graph.propagate import propagate
from edgewright.graph.quantisers import Quantiser, behind, is_constant
from edgewright.graph.schemes.executorch import SHARED
from edgewright.graph.shapes import bind_axes, refresh_shapes

_QUANTISERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_PICKS = ("Relu", "Clip")
_EIGHT = ("int8", "uint8")


def prepare(model: ir.Model, batch: int) -> ir.Model:
    """Returns a copy with every free axis of size `batch`, sizes of tensors folded, integers moved in whole regions.

    XNNPACK moves integers only where both sides have one scale. A Concat whose operands differ gets them requantised
    before it, which rounds as the quantiser behind it would.

    Raises:
        SourceError: The graph does not work out with this batch.
    """
    from onnxscript import optimizer

    made = bind_axes(model, {}, default=batch)
    optimizer.fold_constants(made, should_fold=lambda node: False if node.op_type in _QUANTISERS else None)
    ir.passes.common.RemoveUnusedNodesPass()(made)
    refresh_shapes(made)
    name_nodes(made.graph)
    propagate(made.graph, _moved, _picked)
    return made


def _moved(node: ir.Node) -> tuple[int, ...]:
    return _places(node) if node.op_type in SHARED else ()


def _picked(node: ir.Node) -> tuple[int, ...]:
    """Activations that are not computed inside the operator before them."""
    if node.op_type not in _PICKS or node.inputs[0] is None:
        return ()
    made = node.inputs[0].producer()
    inside = made is not None and made.op_type in (*WEIGHTED, "Add")
    return () if inside else _places(node)


def _places(node: ir.Node) -> tuple[int, ...]:
    carried = data_inputs(node)
    return tuple(
        i
        for i, v in enumerate(node.inputs)
        if v is not None and v.dtype == ir.DataType.FLOAT and any(v is each for each in carried)
    )


def integer_weights(graph: ir.Graph) -> dict[str, str]:
    """Returns the operators that XNNPACK computes in integers: name of the node -> that of its weights' dequantiser.

    Their data come from per-tensor integers of 8 bits, their weights are stored integers of 8 bits around zero, and
    their result, through a bias and one activation, is quantised and read by nothing else.
    """
    found: dict[str, str] = {}
    for node in graph:
        if node.op_type in WEIGHTED and len(node.inputs) > 1 and _data_fit(node.inputs[0]):
            weights = behind(node.inputs[1])
            if weights is not None and _weights_fit(weights) and _ends_quantised(node.outputs[0], node):
                found[node.name or ""] = weights.node.name or ""
    return found


def _data_fit(value: ir.Value | None) -> bool:
    data = behind(value)
    return data is not None and not data.constant and fits(data)


def fits(found: Quantiser) -> bool:
    """Says whether a quantiser of an activation is one that XNNPACK knows: 8 bits, one scale."""
    return found.dtype in _EIGHT and found.scale is not None and found.scale.size == 1


def _weights_fit(weights: Quantiser) -> bool:
    middle = 128 if weights.dtype == "uint8" else 0
    stored = weights.integers()
    return (
        weights.dtype in _EIGHT
        and weights.scale is not None
        and stored is not None
        and bool((weights.zero_point == middle).all())
    )


def _ends_quantised(value: ir.Value, node: ir.Node) -> bool:
    users = [use.node for use in value.uses()]
    if not users or value.is_graph_output():
        return False
    if all(user.op_type == "QuantizeLinear" for user in users):
        return len(quantised_as(value)) == 1
    if len(users) != 1 or node.op_type in _PICKS:
        return False
    if node.op_type == "MatMul" and users[0].op_type == "Add" and any(map(is_constant, users[0].inputs)):
        return _ends_quantised(users[0].outputs[0], users[0])
    return users[0].op_type in _PICKS and _ends_quantised(users[0].outputs[0], users[0])
