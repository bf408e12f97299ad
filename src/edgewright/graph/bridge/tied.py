"""Tensors that an exporter stored once because they were equal, though they belong to different layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.initializers import add_initializer

_Reader = tuple[ir.Node, int]


def untie_equal(model: ir.Model) -> tuple[str, ...]:
    """Does what `edgewright.graph.bridge.untie` says."""
    added: list[str] = []
    for graph in model.graphs():
        for value in list(graph.initializers.values()):
            if _by_chance(value):
                added += _split(graph, value)
    return tuple(added)


def _by_chance(value: ir.Value) -> bool:
    """A vector of one number all along: scales of ones, biases of zeros, as a new network has them."""
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _FLOATS or len(tensor.shape) != 1 or tensor.size < 2:
        return False
    array = tensor.numpy()
    return bool((array == array[0]).all())


_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _split(graph: ir.Graph, value: ir.Value) -> list[str]:
    """Gives every layer but the first that reads `value` a copy; layers that share their weights share it still."""
    layers: dict[object, list[_Reader]] = {}
    for node, index in _readers(value):
        layers.setdefault(_layer(node, index), []).append((node, index))
    added = []
    for readers in list(layers.values())[1:]:
        assert value.const_value is not None
        copy = add_initializer(graph, f"{value.name}/{readers[0][0].name}", np.array(value.const_value.numpy()))
        added.append(str(copy.name))
        for node, index in readers:
            node.replace_input_with(index, copy)
    return added


def _readers(value: ir.Value) -> list[_Reader]:
    """Who reads `value`, straight or through Identity; a graph that gives it out keeps it."""
    found: list[_Reader] = []
    for use in value.uses():
        if use.node.op_type == "Identity":
            found += [] if use.node.outputs[0].is_graph_output() else _readers(use.node.outputs[0])
        else:
            found.append((use.node, use.idx))
    return found


def _layer(node: ir.Node, index: int) -> object:
    weights = (_stored(v) for i, v in enumerate(node.inputs) if i != index and v is not None)
    named = tuple(sorted(str(v.name) for v in weights if v.const_value is not None and len(v.const_value.shape) > 1))
    return (node.op_type, named, index) if named else (id(node), index)


def _stored(value: ir.Value) -> ir.Value:
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    return value
