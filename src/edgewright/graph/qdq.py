"""Apply a plan: QuantizeLinear and DequantizeLinear in the graph; and read a plan back from a graph that has them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Plan, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid, dequantise, quantise, weight_grid
from edgewright.graph.initializers import add_initializer
from edgewright.graph.names import name_nodes
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.quantisers import DEQUANTISED, DEQUANTIZE, QUANTIZE, Quantiser, all_quantisers, behind, one_sided

_DTYPES = {
    "int8": ir.DataType.INT8,
    "uint8": ir.DataType.UINT8,
    "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16,
    "int32": ir.DataType.INT32,
}
_WHOLE = frozenset(_DTYPES.values())


def is_quantised(graph: ir.Graph) -> bool:
    """Says whether some activation passes through a quantiser (weights stored as integers do not count)."""
    return any(
        node.op_type == QUANTIZE and node.inputs[0] is not None and not _constant(node.inputs[0]) for node in graph
    )


def apply(graph: ir.Graph, plan: Plan) -> None:
    """Inserts the quantisers of `plan` in place.

    A constant becomes integers behind a DequantizeLinear. Every consumer of an activation then reads its dequantised
    value; a graph output keeps its name and holds the dequantised value too.

    Raises:
        ConfigError: The plan names a tensor that the graph does not have.
    """
    values = _values(graph)
    for tensor in plan.tensors:
        if tensor.tensor not in values:
            raise ConfigError(f'the plan names tensor "{tensor.tensor}", which the graph lacks', hint="plan this model")
        value = values[tensor.tensor]
        if _constant(value):
            _store(graph, value, tensor)
        else:
            _insert(graph, value, tensor)


def read_plan(graph: ir.Graph) -> Plan:
    """Returns the plan that the quantisers of `graph` spell out, whoever put them there.

    Read are activations, constants stored as integers, constants still stored as floats behind a pair of quantisers,
    and activations that the model returns as integers; types of 8, 16 and 32 bits, per tensor and per channel.
    Quantisers whose scale is computed while the model runs are left out, and so are blocks.
    """
    tensors: dict[str, TensorPlan] = {}
    for found in all_quantisers(graph):
        if found.scale is not None and not found.node.attributes.get_int("block_size", 0):
            tensors.setdefault(found.tensor, _spelled(found))
    for node in graph:
        if node.op_type == QUANTIZE and not any(use.node.op_type == DEQUANTIZE for use in node.outputs[0].uses()):
            alone = one_sided(node)
            if alone is not None and alone.scale is not None:
                tensors.setdefault(alone.source.name or "", _spelled(alone))
    order = {name: index for index, name in enumerate(_values(graph))}
    ordered = sorted(tensors.values(), key=lambda t: order.get(t.tensor, len(order)))
    return Plan("as given", tuple(ordered), _floats(graph))


def _spelled(found: Quantiser) -> TensorPlan:
    assert found.scale is not None
    scales = tuple(float(s) for s in found.scale.reshape(-1))
    zeros = np.broadcast_to(found.zero_point.reshape(-1), (len(scales),))
    name = (found.source.name or "") if found.node.op_type == QUANTIZE else found.tensor
    return TensorPlan(name, found.dtype, scales, tuple(int(z) for z in zeros), found.axis, "given with the model")


def _floats(graph: ir.Graph) -> dict[str, str]:
    """Returns every operator with weights that reads floats, and why that is so."""
    found: dict[str, str] = {}
    for node in graph:
        if node.op_type in WEIGHTED and len(node.inputs) > 1:
            data, weights = (behind(v) is not None for v in node.inputs[:2])
            if not (data and weights):
                what = "neither its input nor its weights are" if data == weights else "only one of its operands is"
                found[node.name or ""] = f"{what} quantised"
    return found


def prepare(model: ir.Model) -> None:
    """Readies a model for quantising anew, in place.

    Names every node, turns weights stored as integers back into float32, and gives every operator a bias of its own:
    the scale of a quantised bias follows from the operator's input.
    """
    name_nodes(model.graph)
    fold_stored_weights(model.graph)
    _untie_biases(model.graph)


def _untie_biases(graph: ir.Graph) -> None:
    for value in list(graph.initializers.values()):
        uses = [use for use in value.uses() if use.idx == 2 and use.node.op_type in WEIGHTED]
        for use in uses[1:] if len(uses) == len(value.uses()) else uses:
            assert value.const_value is not None
            own = add_initializer(graph, f"{value.name}/{use.node.name}", value.const_value.numpy())
            use.node.replace_input_with(2, own)


def fold_stored_weights(graph: ir.Graph, only: Collection[ir.DataType] = _WHOLE) -> int:
    """Replaces constants behind a DequantizeLinear by float32 constants, in place.

    Weights in blocks or in less than 8 bits stay: expanded they would grow many times over.

    Args:
        graph: Changed in place.
        only: Types of integers to replace.

    Returns:
        How many were replaced.
    """
    count = 0
    for node in list(graph):
        if node.op_type == DEQUANTIZE and _foldable(node) and _stored_as(node) in only:
            _expand(graph, node)
            count += 1
    return count


def _stored_as(node: ir.Node) -> ir.DataType | None:
    return None if node.inputs[0] is None else node.inputs[0].dtype


def _foldable(node: ir.Node) -> bool:
    integers, scale = node.inputs[0], node.inputs[1]
    if integers is None or scale is None or node.outputs[0].is_graph_output():
        return False
    plain = integers.dtype in _WHOLE and scale.dtype == ir.DataType.FLOAT
    known = all(value is None or _constant(value) for value in node.inputs)
    return plain and known and not node.attributes.get_int("block_size", 0)


def _expand(graph: ir.Graph, node: ir.Node) -> None:
    stored = [value for value in node.inputs if value is not None]
    constants = [_numbers(v) for v in node.inputs]
    integers, scale = constants[0], constants[1]
    assert integers is not None
    assert scale is not None
    zero = constants[2] if len(constants) > 2 and constants[2] is not None else np.zeros(scale.shape, np.int64)
    axis = (node.attributes.get_int("axis", 1) or 0) if scale.size > 1 else None
    old = node.outputs[0]
    real = dequantise(integers, scale, zero, axis)
    name = old.name or f"{node.name}/float"
    old.name = f"{name}{DEQUANTISED}"
    new = add_initializer(graph, name, real)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    for value in stored:
        if not value.uses():
            graph.initializers.pop(value.name or "", None)


def _store(graph: ir.Graph, value: ir.Value, tensor: TensorPlan) -> None:
    assert value.const_value is not None
    integers = quantise(value.const_value.numpy(), tensor.scale, tensor.zero_point, grid_of(tensor), tensor.axis)
    stored = add_initializer(graph, f"{tensor.tensor}/quantised", integers)
    node = _dequantize(graph, stored, tensor)
    users = list(value.uses())
    readers = {id(use.node) for use in users}
    first = next(each for each in graph if id(each) in readers)
    graph.insert_before(first, node)
    for use in users:
        use.node.replace_input_with(use.idx, node.outputs[0])
    del graph.initializers[tensor.tensor]


def grid_of(tensor: TensorPlan) -> Grid:
    """Returns the integers that a stored constant is saturated to."""
    if tensor.dtype == "int32":
        return Grid("int32", -(2**31), 2**31 - 1)
    if tensor.limits is not None:
        return Grid(tensor.dtype, *tensor.limits)
    if tensor.axis is None and any(tensor.zero_point):
        info = np.iinfo(tensor.dtype)
        return Grid(tensor.dtype, int(info.min), int(info.max))
    return weight_grid(tensor.dtype, 8, symmetric=np.iinfo(tensor.dtype).min < 0)


def _insert(graph: ir.Graph, value: ir.Value, tensor: TensorPlan) -> None:
    users = list(value.uses())
    output = [i for i, each in enumerate(graph.outputs) if each is value]
    if output:
        value.name = f"{tensor.tensor}/float"
    scale, zero = _parameters(graph, tensor)
    name = f"{tensor.tensor}/{QUANTIZE}"
    quantize = ir.node(QUANTIZE, [value, scale, zero], _axis(tensor), name=name)
    quantize.outputs[0].name = f"{tensor.tensor}/quantised"
    quantize.outputs[0].dtype, quantize.outputs[0].shape = _DTYPES[tensor.dtype], value.shape
    dequantize = _dequantize(graph, quantize.outputs[0], tensor, (scale, zero))
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    for use in users:
        use.node.replace_input_with(use.idx, dequantize.outputs[0])
    for index in output:
        dequantize.outputs[0].name = tensor.tensor
        graph.outputs[index] = dequantize.outputs[0]


def _dequantize(
    graph: ir.Graph, integers: ir.Value, tensor: TensorPlan, known: tuple[ir.Value, ir.Value] | None = None
) -> ir.Node:
    scale, zero = known or _parameters(graph, tensor)
    inputs = [integers, scale] if tensor.dtype == "int32" else [integers, scale, zero]
    node = ir.node(DEQUANTIZE, inputs, _axis(tensor), name=f"{tensor.tensor}/{DEQUANTIZE}")
    node.outputs[0].name = f"{tensor.tensor}{DEQUANTISED}"
    node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, integers.shape
    return node


def _axis(tensor: TensorPlan) -> dict[str, int]:
    return {} if tensor.axis is None else {"axis": tensor.axis}


def _parameters(graph: ir.Graph, tensor: TensorPlan) -> tuple[ir.Value, ir.Value]:
    shape = () if tensor.axis is None else (len(tensor.scale),)
    scale = np.asarray(tensor.scale, np.float32).reshape(shape)
    zero = np.asarray(tensor.zero_point, tensor.dtype).reshape(shape)
    scales = add_initializer(graph, f"{tensor.tensor}/scale", scale)
    if tensor.dtype == "int32":
        return scales, scales
    return scales, add_initializer(graph, f"{tensor.tensor}/zero_point", zero)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    return {v.name: v for v in _all_values(graph) if v.name}


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _constant(value: ir.Value) -> bool:
    return value.const_value is not None


def _numbers(value: ir.Value | None) -> NDArray[Any] | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()
