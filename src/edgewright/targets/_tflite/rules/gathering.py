"""Reading and writing by index; negative indices count from the end, which kernels do not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.arithmetic import binary, copy
from edgewright.targets._tflite.rules.typed import (
    FLOAT,
    INT,
    LONG,
    attribute,
    cast,
    compute,
    ints,
    kind_for,
    refuse,
    scalar,
    step,
)

_READ = (FLOAT, "uint8", "int8", "int16", INT, LONG, "bool")


def gather(e: Emission, node: ir.Node) -> None:
    """GATHER; SLICE for constant indices in a row."""
    shape = e.shape(node, 0)
    axis = attribute(node, "axis", 0) % len(shape)
    if (run := _run(e.constant(node, 1), shape[axis])) is not None:
        _sliced(e, node, axis, *run)
        return
    indices = wrapped(e, node, 1, [shape[axis]])
    data = [e.input(node, 0)]
    compute(e, node, "GATHER", data, _READ, "GatherOptions", fixed=[indices], axis=axis, batchDims=0)


def _run(indices: NDArray[Any] | None, size: int) -> tuple[int, int] | None:
    """Returns start and length of constant indices that follow one another; delegates slice, but do not gather."""
    if indices is None or indices.size == 0 or indices.ndim > 1:
        return None
    flat = np.where(indices < 0, indices + size, indices).reshape(-1)
    return (int(flat[0]), flat.size) if bool((np.diff(flat) == 1).all()) else None


def _sliced(e: Emission, node: ir.Node, axis: int, start: int, length: int) -> None:
    data, shape = e.input(node, 0), list(e.shape(node, 0))
    begin = [start if index == axis else 0 for index in range(len(shape))]
    size = [length if index == axis else each for index, each in enumerate(shape)]
    flat = len(e.out_shape(node)) != len(shape)
    made = e.temp(data, size, f"{node.name}/slice") if flat else e.output(node)
    e.op("SLICE", [data, ints(e, begin, "begin"), ints(e, size, "size")], [made], "SliceOptions")
    if flat:
        copy(e, node, made)


def gather_nd(e: Emission, node: ir.Node) -> None:
    """GATHER_ND; batch dimensions are lowered before."""
    shape = e.shape(node, 0)
    indices = wrapped(e, node, 1, shape[: e.shape(node, 1)[-1]])
    compute(e, node, "GATHER_ND", [e.input(node, 0)], _READ, "GatherNdOptions", fixed=[indices])


def scatter_nd(e: Emission, node: ir.Node) -> None:
    """SCATTER_ND adds into zeros: its sum is added to the data, or stands where anything was written."""
    reduction = node.attributes.get_string("reduction", "none")
    if reduction not in ("none", "add"):
        raise refuse(node, f'reduction "{reduction}": kernels only add')
    shape = e.shape(node, 0)
    data = e.input(node, 0)
    kind = kind_for(e.tensor(data).dtype, (FLOAT, INT, LONG), node)
    data, updates = cast(e, data, kind), cast(e, e.input(node, 2), kind)
    indices = cast(e, wrapped(e, node, 1, shape[: e.shape(node, 1)[-1]]), INT)
    to = ints(e, shape, "shape")
    written = step(e, "SCATTER_ND", [indices, updates, to], shape, "ScatterNdOptions", dtype=kind)
    if reduction == "add":
        binary(e, node, "ADD", [data, written], (kind,), "AddOptions", fusedActivationFunction=e.activation(node))
        return
    ones = e.const(np.ones(e.tensor(updates).shape, np.int32), f"{node.name}/ones")
    counts = step(e, "SCATTER_ND", [indices, ones, to], shape, "ScatterNdOptions", dtype=INT)
    here = step(e, "GREATER", [counts, scalar(e, 0, INT)], options="GreaterOptions", dtype="bool")
    out = e.output(node)
    if e.tensor(out).dtype == kind:
        e.op("SELECT_V2", [here, written, data], [out], "SelectV2Options")
        return
    made = step(e, "SELECT_V2", [here, written, data], shape, "SelectV2Options", dtype=kind)
    e.op("CAST", [made], [out], "CastOptions")


def wrapped(e: Emission, node: ir.Node, index: int, sizes: Sequence[int]) -> int:
    """Returns indices that are not negative.

    Args:
        e: The emission.
        node: Their reader.
        index: Of the input.
        sizes: Of the axes they point into, one, or one per entry of their last axis.
    """
    found = e.constant(node, index)
    if found is not None:
        kept = np.where(found < 0, found + np.asarray(sizes), found).astype(np.int32)
        kept = kept.reshape(found.shape)
        return e.const(kept, f"{node.name}/indices")
    indices = e.input(node, index)
    kind = kind_for(e.tensor(indices).dtype, (INT, LONG), node)
    by = np.asarray(sizes if len(sizes) > 1 else sizes[0], kind)
    return step(e, "FLOOR_MOD", [cast(e, indices, kind), e.const(by, "sizes")], options="FloorModOptions")


RULES: Rules = {
    ("", "Gather"): gather,
    ("", "GatherND"): gather_nd,
    ("", "ScatterND"): scatter_nd,
}
