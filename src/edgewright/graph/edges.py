"""Quantisers on the edges of a graph: which integers an operator reads and writes, and pairs put in between."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.affine import Grid, quantise
from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import (
    DEQUANTIZE,
    QUANTIZE,
    Numbers,
    behind,
    numbers,
    numbers_of,
    numbers_of_quantize,
)


def given(value: ir.Value | None) -> Numbers | None:
    """Returns the per-tensor parameters of the integers that `value` comes from; None for floats."""
    return numbers_of(behind(value))


def quantised_as(value: ir.Value) -> tuple[Numbers, ...]:
    """Returns the different parameters that `value` is quantised with; empty where anything else reads it too."""
    users = [use.node for use in value.uses()]
    if value.is_graph_output() or not users or any(user.op_type != QUANTIZE for user in users):
        return ()
    found = [numbers_of_quantize(user) for user in users]
    return () if None in found else tuple(dict.fromkeys(each for each in found if each is not None))


def wanted(value: ir.Value) -> Numbers | None:
    """Returns the parameters that all readers of `value` quantise it with; None where they differ or read floats."""
    found = quantised_as(value)
    return found[0] if len(found) == 1 else None


def insert_behind(graph: ir.Graph, value: ir.Value, params: Numbers) -> ir.Value:
    """Lets all readers of `value` read it through integers of `params`; a graph output keeps its name.

    Returns:
        The dequantised value.
    """
    users, outputs = list(value.uses()), [i for i, each in enumerate(graph.outputs) if each is value]
    name = value.name or "value"
    if outputs:
        value.name = f"{name}/float"
    made = _pair(graph, value, params, name)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], made)
    else:
        graph.insert_after(producer, made)
    result = made[-1].outputs[0]
    for use in users:
        use.node.replace_input_with(use.idx, result)
    for index in outputs:
        result.name = name
        graph.outputs[index] = result
    result.metadata_props.update(value.metadata_props)
    return result


def insert_before(graph: ir.Graph, node: ir.Node, index: int, params: Numbers) -> None:
    """Lets one input of `node` pass through integers of `params`; a constant is stored as such integers."""
    value = node.inputs[index]
    assert value is not None
    array, name = numbers(value), f"{value.name}/{node.name}/{index}"
    made = _pair(graph, value, params, name) if array is None else []
    if array is not None:
        info = np.iinfo(params.dtype)
        grid = Grid(params.dtype, int(info.min), int(info.max))
        integers = quantise(array, params.scale, params.zero, grid)
        stored = add_initializer(graph, f"{name}/quantised", integers)
        made = [_dequantize(graph, stored, params, name)]
    graph.insert_before(node, made)
    node.replace_input_with(index, made[-1].outputs[0])


def _pair(graph: ir.Graph, value: ir.Value, params: Numbers, name: str) -> list[ir.Node]:
    quantize = ir.node(QUANTIZE, [value, *_constants(graph, params)], name=f"{name}/{QUANTIZE}")
    integers = quantize.outputs[0]
    integers.name = f"{name}/integers"
    integers.dtype, integers.shape = ir.DataType.from_numpy(np.dtype(params.dtype)), value.shape
    integers.metadata_props.update(value.metadata_props)
    return [quantize, _dequantize(graph, integers, params, name)]


def _dequantize(graph: ir.Graph, integers: ir.Value, params: Numbers, name: str) -> ir.Node:
    node = ir.node(DEQUANTIZE, [integers, *_constants(graph, params)], name=f"{name}/{DEQUANTIZE}")
    node.outputs[0].name = f"{name}/real"
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, integers.shape
    return node


def _constants(graph: ir.Graph, params: Numbers) -> tuple[ir.Value, ir.Value]:
    """One initialiser per number serves all pairs."""
    arrays = (np.asarray(params.scale, np.float32), np.asarray(params.zero, params.dtype))
    names = (f"quantiser/scale/{params.scale!r}", f"quantiser/zero_point/{params.dtype}/{params.zero}")
    found = [graph.initializers.get(name) for name in names]
    made = [
        add_initializer(graph, name, array) if each is None else each
        for name, array, each in zip(names, arrays, found, strict=True)
    ]
    return made[0], made[1]
