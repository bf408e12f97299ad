"""Stored integers as LiteRT wants them: signed, and moved by whatever stands between them and their operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.affine import Grid, quantise
from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, axis_of, dtype_of, numbers, one_sided
from edgewright.graph.shapes import static_shape

_SHIFT = {"uint8": (128, ir.DataType.INT8), "uint16": (1 << 15, ir.DataType.INT16)}
_VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")


def store_integers(graph: ir.Graph) -> None:
    """Stores float constants behind a QuantizeLinear as the integers it gives, in place."""
    for node in list(graph):
        array = numbers(node.inputs[0]) if node.op_type == QUANTIZE else None
        found = one_sided(node) if array is not None else None
        if array is None or found is None or found.scale is None or node.outputs[0].is_graph_output():
            continue
        info = np.iinfo(found.dtype)
        grid = Grid(found.dtype, int(info.min), int(info.max))
        integers = quantise(array, found.scale, found.zero_point, grid, found.axis)
        made = add_initializer(graph, f"{node.name}/stored", integers)
        node.outputs[0].replace_all_uses_with(made)
        graph.remove(node, safe=True)


def make_signed(graph: ir.Graph) -> None:
    """Turns unsigned integers into signed ones, in place: both the integer and its zero point less 128 (or 32768).

    The real values stay what they are. Integers that enter or leave the graph itself are left alone.
    """
    for node in list(graph):
        if node.op_type == QUANTIZE and dtype_of(node) in _SHIFT and _only_dequantised(node.outputs[0]):
            shift, dtype = _SHIFT[dtype_of(node)]
            readers = [use.node for use in node.outputs[0].uses()]
            node.attributes.pop("output_dtype", None)
            _shift_zero(graph, node, shift, dtype)
            node.outputs[0].dtype = dtype
            for reader in readers:
                _shift_zero(graph, reader, shift, dtype)
        elif node.op_type == DEQUANTIZE and dtype_of(node) in _SHIFT and numbers(node.inputs[0]) is not None:
            shift, dtype = _SHIFT[dtype_of(node)]
            stored = numbers(node.inputs[0])
            assert stored is not None
            _shift_zero(graph, node, shift, dtype)
            made = (stored.astype(np.int64) - shift).astype(dtype.numpy())
            node.replace_input_with(0, add_initializer(graph, f"{node.name}/signed", made))


def fold_moves(graph: ir.Graph) -> None:
    """Computes data movement of stored integers, in place, so that they stand behind a DequantizeLinear again.

    Scales of an axis move with it; where they would no longer lie along one axis the movement stays.
    """
    for node in list(graph):
        value = node.inputs[0] if node.inputs else None
        made = value.producer() if value is not None else None
        if made is None or made.op_type != DEQUANTIZE or numbers(made.inputs[0]) is None:
            continue
        shape = static_shape(node.outputs[0])
        if shape is not None and _movable(node):
            _fold(graph, node, made, shape)


def _only_dequantised(value: ir.Value) -> bool:
    users = [use.node for use in value.uses()]
    return bool(users) and not value.is_graph_output() and all(user.op_type == DEQUANTIZE for user in users)


def _shift_zero(graph: ir.Graph, node: ir.Node, shift: int, dtype: ir.DataType) -> None:
    stored = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    scale = numbers(node.inputs[1])
    zero = np.zeros(() if scale is None else scale.shape, np.int64) if stored is None else stored.astype(np.int64)
    made = add_initializer(graph, f"{node.name}/zero_point", (zero - shift).astype(dtype.numpy()))
    if len(node.inputs) > 2:
        node.replace_input_with(2, made)
    else:
        node.resize_inputs(3)
        node.replace_input_with(2, made)


def _movable(node: ir.Node) -> bool:
    return node.op_type in (*_VIEWS, "Transpose") and not node.outputs[0].is_graph_output()


def _fold(graph: ir.Graph, node: ir.Node, before: ir.Node, shape: tuple[int, ...]) -> None:
    stored, scale = numbers(before.inputs[0]), numbers(before.inputs[1])
    zero = numbers(before.inputs[2]) if len(before.inputs) > 2 else None
    assert stored is not None
    if scale is None:
        return
    axis = axis_of(before, before.inputs[0]) if scale.size > 1 else None  # type: ignore[arg-type]
    sizes = [scale.size if index == axis else 1 for index in range(stored.ndim)]
    spread = np.broadcast_to(np.arange(scale.size).reshape(sizes if axis is not None else ()), stored.shape)
    place, kept = _lane(_moved(node, spread, shape)) if axis is not None else (None, np.zeros(1, np.int64))
    if kept is None:
        return
    chosen = scale.reshape(-1)[kept] if axis is not None else scale
    inputs = [
        add_initializer(graph, f"{node.name}/moved", _moved(node, stored, shape)),
        add_initializer(graph, f"{node.name}/scale", chosen),
    ]
    if zero is not None:
        chosen = zero.reshape(-1)[kept] if axis is not None else zero
        inputs.append(add_initializer(graph, f"{node.name}/zero_point", chosen))
    after = ir.node(DEQUANTIZE, inputs, {} if place is None else {"axis": place}, name=f"{node.name}/{DEQUANTIZE}")
    out = after.outputs[0]
    out.name, out.dtype, out.shape = f"{node.outputs[0].name}/folded", ir.DataType.FLOAT, ir.Shape(shape)
    graph.insert_before(node, after)
    node.outputs[0].replace_all_uses_with(out)
    graph.remove(node, safe=True)


def _moved(node: ir.Node, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if node.op_type == "Transpose":
        array = array.transpose(node.attributes.get_ints("perm") or None)
    return np.ascontiguousarray(array.reshape(shape))


def _lane(lanes: NDArray[Any]) -> tuple[int | None, NDArray[np.int64] | None]:
    """Returns the axis along which numbers of lanes differ, and the lane at each index; None, None where several."""
    for axis in range(lanes.ndim):
        first = np.moveaxis(lanes, axis, 0).reshape(lanes.shape[axis], -1)
        if (first == first[:, :1]).all():
            return axis, first[:, 0].astype(np.int64)
    return None, None
