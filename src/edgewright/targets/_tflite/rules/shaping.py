"""Operators that move data without computing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.arithmetic import copy
from edgewright.targets._tflite.rules.typed import (
    FLOAT,
    INT,
    LONG,
    argument,
    attribute,
    cast,
    compute,
    fixed_input,
    ints,
    kind_for,
    refuse,
    reshaped,
    scalar,
)

_MOST_AXES, _MOST_SLICED = 6, 5
_MOVED = (FLOAT, "uint8", "int8", "int16", INT, LONG, "bool")
_SPLIT = (FLOAT, "uint8", "int8", "int16", INT)


def reshape(e: Emission, node: ir.Node) -> None:
    """RESHAPE to the shape that inference found."""
    copy(e, node, e.input(node, 0))


def transpose(e: Emission, node: ir.Node) -> None:
    """TRANSPOSE, in fewer axes where some stay together; RESHAPE where only axes of size 1 move."""
    shape = e.shape(node, 0)
    said = node.attributes.get_ints("perm")
    perm = list(said) if said else list(range(len(shape)))[::-1]
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved == sorted(moved):
        copy(e, node, e.input(node, 0))
        return
    data = e.input(node, 0)
    if len(shape) <= _MOST_AXES:
        _transpose(e, data, perm, e.output(node))
        return
    fewer, order = together(shape, perm)
    if len(fewer) > _MOST_AXES:
        raise refuse(node, f"{len(fewer)} axes are moved, kernels know {_MOST_AXES}")
    data = reshaped(e, data, fewer)
    made = e.temp(data, [fewer[axis] for axis in order], f"{node.name}/merged")
    _transpose(e, data, order, made)
    copy(e, node, made)


def together(shape: Sequence[int], perm: Sequence[int]) -> tuple[list[int], list[int]]:
    """Returns a shape and order in fewer axes: those that stay side by side are one."""
    starts = [0] + [i + 1 for i, (a, b) in enumerate(pairwise(perm)) if b != a + 1] + [len(perm)]
    runs = [list(perm[begin:end]) for begin, end in pairwise(starts)]
    by_place = sorted(range(len(runs)), key=lambda index: runs[index][0])
    fewer = [int(np.prod([shape[axis] for axis in runs[index]])) for index in by_place]
    return fewer, [by_place.index(index) for index in range(len(runs))]


def _transpose(e: Emission, data: int, perm: Sequence[int], out: int) -> None:
    e.op("TRANSPOSE", [data, ints(e, perm, "perm")], [out], "TransposeOptions")


def concat(e: Emission, node: ir.Node) -> None:
    """CONCATENATION."""
    axis = attribute(node, "axis", 0) % len(e.out_shape(node))
    tensors = [e.input(node, index) for index in range(len(node.inputs))]
    kept = [tensor for tensor in tensors if 0 not in e.tensor(tensor).shape] or tensors[:1]
    compute(e, node, "CONCATENATION", kept, (*_MOVED, "uint32"), "ConcatenationOptions", axis=axis)


def split(e: Emission, node: ir.Node) -> None:
    """SPLIT into equal parts, SPLIT_V into others."""
    shape = e.shape(node, 0)
    axis = attribute(node, "axis", 0) % len(shape)
    sizes = [e.out_shape(node, index)[axis] for index in range(len(node.outputs))]
    data = e.input(node, 0)
    if e.tensor(data).quantisation is None:
        data = cast(e, data, kind_for(e.tensor(data).dtype, _SPLIT, node))
    outs = [e.output(node, index) for index in range(len(sizes))]
    made = [o if _same_type(e, o, data) else e.temp(data, e.tensor(o).shape, f"{node.name}/part") for o in outs]
    at = scalar(e, axis, INT, "axis")
    if len(set(sizes)) == 1:
        e.op("SPLIT", [at, data], made, "SplitOptions", numSplits=len(sizes))
    else:
        e.op("SPLIT_V", [data, ints(e, sizes, "sizes"), at], made, "SplitVOptions", numSplits=len(sizes))
    for part, out in zip(made, outs, strict=True):
        if part != out:
            e.op("CAST", [part], [out], "CastOptions")


def _same_type(e: Emission, one: int, other: int) -> bool:
    return e.tensor(one).dtype == e.tensor(other).dtype


def slice_(e: Emission, node: ir.Node) -> None:
    """SLICE, or STRIDED_SLICE for steps; axes that are kept whole are joined where there are many."""
    shape, out = list(e.shape(node, 0)), list(e.out_shape(node))
    begins, steps = slice_bounds(e, node)
    data = e.input(node, 0)
    merged = len(shape) > _MOST_SLICED
    if merged:
        shape, out, begins, steps = _fewer_sliced(shape, out, begins, steps)
        if len(shape) > _MOST_SLICED:
            raise refuse(node, f"{len(shape)} axes, kernels know {_MOST_SLICED}")
        data = reshaped(e, data, shape)
    made = e.temp(data, out, f"{node.name}/merged") if merged else e.output(node)
    if all(size == 1 for size in steps):
        e.op("SLICE", [data, ints(e, begins, "begin"), ints(e, out, "size")], [made], "SliceOptions")
    else:
        _strided(e, data, begins, out, steps, made)
    if merged:
        copy(e, node, made)


def slice_bounds(e: Emission, node: ir.Node) -> tuple[list[int], list[int]]:
    """Returns where a Slice begins and how it steps, along every axis."""
    shape = e.shape(node, 0)
    starts = argument(e, node, 1, "starts") or []
    axes = argument(e, node, 3, "axes") or list(range(len(starts)))
    by = argument(e, node, 4, "steps") or [1] * len(starts)
    begins, steps = [0] * len(shape), [1] * len(shape)
    for start, axis, step in zip(starts, axes, by, strict=True):
        size = shape[axis]
        begin = start + size if start < 0 else start
        begins[axis] = min(max(begin, 0), size - 1 if step < 0 else size)
        steps[axis] = step
    return begins, steps


def _fewer_sliced(
    shape: list[int], out: list[int], begins: list[int], steps: list[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    rows: list[tuple[int, int, int, int]] = []
    for row in zip(shape, out, begins, steps, strict=True):
        if rows and _whole(rows[-1]) and _whole(row):
            rows[-1] = (rows[-1][0] * row[0], rows[-1][1] * row[1], 0, 1)
        else:
            rows.append(row)
    one, two, three, four = (list(column) for column in zip(*rows, strict=True))
    return one, two, three, four


def _whole(row: tuple[int, int, int, int]) -> bool:
    return row[0] == row[1] and row[3] == 1


def _strided(
    e: Emission, data: int, begins: Sequence[int], out: Sequence[int], steps: Sequence[int], made: int
) -> None:
    ends = [b + n * s for b, n, s in zip(begins, out, steps, strict=True)]
    mask = sum(1 << axis for axis, end in enumerate(ends) if end < 0)
    inputs = [data, ints(e, begins, "begin"), ints(e, [max(x, 0) for x in ends], "end"), ints(e, steps, "strides")]
    e.op("STRIDED_SLICE", inputs, [made], "StridedSliceOptions", endMask=mask)


def expand(e: Emission, node: ir.Node) -> None:
    """BROADCAST_TO, or a copy where nothing grows."""
    data, out = e.input(node, 0), e.out_shape(node)
    if int(np.prod(e.tensor(data).shape)) == int(np.prod(out)):
        copy(e, node, data)
        return
    to = ints(e, out, "shape")
    compute(e, node, "BROADCAST_TO", [data], (*_MOVED, "uint32"), "BroadcastToOptions", fixed=[to])


def tile(e: Emission, node: ir.Node) -> None:
    """TILE."""
    repeats = ints(e, fixed_input(e, node, 1, "repeats"), "repeats")
    compute(e, node, "TILE", [e.input(node, 0)], (FLOAT, INT, LONG, "bool"), "TileOptions", fixed=[repeats])


def triangle(e: Emission, node: ir.Node) -> None:
    """SELECT_V2 by a constant mask."""
    shape = e.shape(node, 0)
    at = int(fixed_input(e, node, 1, "k").reshape(-1)[0]) if len(node.inputs) > 1 and node.inputs[1] else 0
    keep = np.tril if not attribute(node, "upper", 1) else np.triu
    mask = e.const(keep(np.ones(shape[-2:], bool), at), f"{node.name}/mask")
    data = e.input(node, 0)
    zero = scalar(e, 0, e.tensor(data).dtype)
    e.op("SELECT_V2", [mask, data, zero], [e.output(node)], "SelectV2Options")


def reverse_sequence(e: Emission, node: ir.Node) -> None:
    """REVERSE_SEQUENCE."""
    compute(
        e,
        node,
        "REVERSE_SEQUENCE",
        [e.input(node, 0)],
        (FLOAT, "uint8", "int16", INT, LONG),
        "ReverseSequenceOptions",
        fixed=[e.input(node, 1)],
        seqDim=attribute(node, "time_axis", 0),
        batchDim=attribute(node, "batch_axis", 1),
    )


RULES: Rules = {
    ("", "Reshape"): reshape,
    ("", "Flatten"): reshape,
    ("", "Squeeze"): reshape,
    ("", "Unsqueeze"): reshape,
    ("", "Transpose"): transpose,
    ("", "Concat"): concat,
    ("", "Split"): split,
    ("", "Slice"): slice_,
    ("", "Expand"): expand,
    ("", "Tile"): tile,
    ("", "Trilu"): triangle,
    ("", "ReverseSequence"): reverse_sequence,
}
