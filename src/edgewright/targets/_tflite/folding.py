"""Constants computed before the compiler looks at the graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import is_constant, numbers
from edgewright.graph.shapes import refresh_shapes, static_shape

_KEPT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Constant")
_RANDOM = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
_MOST_ELEMENTS = 1 << 24
_ROUNDS = 8


def fold(model: ir.Model) -> ir.Model:
    """Returns the model with everything folded that does not depend on its inputs, sizes of tensors included."""
    for _ in range(_ROUNDS):
        if not sum(_fold(model, node) for node in list(model.graph)):
            return model
        ir.passes.common.RemoveUnusedNodesPass()(model)
        refresh_shapes(model)
    return model


def _fold(model: ir.Model, node: ir.Node) -> bool:
    if node.op_type == "If" and node.domain == "":
        return _take_branch(node)
    found = _known(model, node)
    if found is None:
        return False
    for value, array in zip(node.outputs, found, strict=False):
        _replace(model.graph, value, array)
    return True


def _known(model: ir.Model, node: ir.Node) -> Sequence[NDArray[Any]] | None:
    """Returns the values of a node's outputs, None where they are not known."""
    if not _worth(node):
        return None
    if node.op_type in ("Shape", "Size"):
        return _sizes(node)
    if any(value is not None and not is_constant(value) for value in node.inputs) or _has_graph(node):
        return None
    shape = static_shape(node.outputs[0])
    if shape is not None and int(np.prod(shape)) > _MOST_ELEMENTS:
        return None
    return _evaluate(model, node)


def _worth(node: ir.Node) -> bool:
    if node.op_type in _KEPT or node.op_type in _RANDOM or node.domain != "":
        return False
    if node.op_type == "Identity" and node.outputs[0].is_graph_output():
        return False
    return any(value.uses() or value.is_graph_output() for value in node.outputs)


def _sizes(node: ir.Node) -> Sequence[NDArray[Any]] | None:
    shape = static_shape(node.inputs[0])
    if shape is None:
        return None
    if node.op_type == "Size":
        return [np.asarray(int(np.prod(shape)), np.int64)]
    start, end = node.attributes.get_int("start", 0) or 0, node.attributes.get_int("end", len(shape))
    return [np.asarray(shape[start:end], np.int64)]


def _evaluate(model: ir.Model, node: ir.Node) -> Sequence[NDArray[Any]]:
    from onnx.reference import ReferenceEvaluator

    feed = {value.name or "": numbers(value) for value in node.inputs if value is not None}
    anything = onnx.TypeProto()
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "constant",
        [onnx.helper.make_value_info(name, anything) for name in feed],
        [onnx.helper.make_value_info(value.name, anything) for value in node.outputs if value.name],
    )
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    try:
        found = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, feed)
    except Exception as error:  # the evaluator raises many kinds
        text = " ".join(str(error).split())[:300]
        raise StepFailed(
            f"LiteRT: constants of {node.op_type} (node {node.name}) could not be computed: {text}",
            hint="clean the model up first",
        ) from error
    return [np.asarray(array) for array in found]


def _replace(graph: ir.Graph, value: ir.Value, array: NDArray[Any]) -> None:
    """Lets a constant serve the readers of `value`; an output of the graph gets it through an Identity."""
    dtype = value.dtype or ir.DataType.from_numpy(array.dtype)
    made = add_initializer(graph, f"{value.name}/folded", array.astype(dtype.numpy(), copy=False))
    for use in list(value.uses()):
        use.node.replace_input_with(use.idx, made)
    if value.is_graph_output() and (node := value.producer()) is not None:
        _give(graph, node, value, made)


def _give(graph: ir.Graph, node: ir.Node, value: ir.Value, made: ir.Value) -> None:
    out = ir.Value(name=value.name, type=value.type, shape=made.shape)
    copy = ir.node("Identity", [made], outputs=[out], name=f"{node.name}/folded")
    graph.insert_before(node, copy)
    value.name = f"{value.name}/before"
    ir.convenience.replace_all_uses_with(value, out, replace_graph_outputs=True)


def _has_graph(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _take_branch(node: ir.Node) -> bool:
    """Puts the nodes of the branch that is always taken in the place of an If."""
    condition = numbers(node.inputs[0])
    if condition is None or node.graph is None:
        return False
    taken = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"].as_graph()
    for value in list(taken.initializers.values()):
        del taken.initializers[value.name or ""]
        value.name = f"{node.name}/{value.name}"
        node.graph.register_initializer(value)
    outputs = list(taken.outputs)
    inner = list(taken)
    taken.outputs.clear()
    taken.remove(inner)
    for index, moved in enumerate(inner):
        moved.name = f"{node.name}/{moved.name or index}"
        for value in moved.outputs:
            value.name = f"{node.name}/{value.name}"
    node.graph.insert_before(node, inner)
    for old, new in zip(node.outputs, outputs, strict=True):
        name = old.name
        old.name = f"{name}/before"
        if new.producer() is not None:
            new.name = name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    return True
