"""Reading and writing by index in terms of Gather, GatherND and ScatterND."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.arithmetic import Made, Maths, like
from edgewright.targets._tflite.lowering.reduce import axis_of


def _gather_elements(lowering: Lowering, node: ir.Node) -> Made:
    """A Gather from the flattened data."""
    shape, wanted = lowering.shape(0), lowering.shape(1)
    if shape is None or wanted is None or node.inputs[0] is None:
        return None
    m = Maths(lowering)
    flat = m("Reshape", node.inputs[0], np.asarray([-1], np.int64))
    return [m("Gather", flat, _flat_indices(m, node, shape, wanted), axis=0)]


def _flat_indices(m: Maths, node: ir.Node, shape: Sequence[int], wanted: Sequence[int]) -> ir.Value:
    indices = node.inputs[1]
    assert indices is not None
    axis = axis_of(node, 0) % len(shape)
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    grids = np.indices(wanted)
    base: NDArray[Any] = np.zeros(tuple(wanted), np.int64)
    for index, stride in enumerate(strides):
        base = base + (0 if index == axis else grids[index] * stride)
    kind = like(0, indices).dtype
    wrapped = m("Mod", indices, np.asarray(shape[axis], kind))
    return m("Add", m("Mul", wrapped, np.asarray(strides[axis], kind)), base.astype(kind))


def _gather_nd(lowering: Lowering, node: ir.Node) -> Made:
    """Batch dimensions become entries of the indices."""
    batch = node.attributes.get_int("batch_dims", 0) or 0
    shape, wanted = lowering.shape(0), lowering.shape(1)
    if not batch or shape is None or wanted is None or node.inputs[1] is None:
        return None
    kind = like(0, node.inputs[1]).dtype
    grids = np.moveaxis(np.indices(wanted[:-1])[:batch], 0, -1).astype(kind)
    indices = lowering.add("Concat", [grids, node.inputs[1]], axis=-1)
    return [lowering.add("GatherND", [node.inputs[0], indices])]


def _scatter_elements(lowering: Lowering, node: ir.Node) -> Made:
    """A ScatterND into the flattened data."""
    shape, wanted = lowering.shape(0), lowering.shape(1)
    if shape is None or wanted is None or node.inputs[0] is None or node.inputs[2] is None:
        return None
    m = Maths(lowering)
    flat, updates = (m("Reshape", value, np.asarray([-1], np.int64)) for value in (node.inputs[0], node.inputs[2]))
    indices = m("Reshape", _flat_indices(m, node, shape, wanted), np.asarray([-1, 1], np.int64))
    if lowering.model.opset_imports.get("", 18) >= 16:
        reduction = node.attributes.get_string("reduction", "none")
        made = m("ScatterND", flat, indices, updates, reduction=reduction)
    else:
        made = m("ScatterND", flat, indices, updates)
    return [m("Reshape", made, np.asarray(shape, np.int64))]


def _compress(lowering: Lowering, node: ir.Node) -> Made:
    """A Gather of what a constant condition keeps."""
    kept, x = lowering.number(1), node.inputs[0]
    if kept is None or x is None:
        return None
    indices = np.flatnonzero(kept).astype(np.int64)
    if node.attributes.get("axis") is None:
        x = lowering.add("Reshape", [x, np.asarray([-1], np.int64)])
    return [lowering.add("Gather", [x, indices], axis=axis_of(node, 0))]


def _eye(lowering: Lowering, node: ir.Node) -> Made:
    shape = lowering.shape(0)
    if shape is None or node.inputs[0] is None:
        return None
    kind = ir.DataType(node.attributes.get_int("dtype", int(node.inputs[0].dtype or 1)) or 1)
    made = np.eye(shape[0], shape[1], k=node.attributes.get_int("k", 0) or 0).astype(kind.numpy())
    return [lowering.add("Identity", [made])]


RULES: Mapping[str, Rule] = {
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "Compress": _compress,
    "EyeLike": _eye,
}
