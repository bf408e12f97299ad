"""Reductions, maxima and sums along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rule, Rules
from edgewright.targets._tflite.rules.arithmetic import copy
from edgewright.targets._tflite.rules.typed import (
    FLOAT,
    INT,
    LONG,
    NUMBERS,
    argument,
    attribute,
    cast,
    compute,
    fixed_input,
    ints,
    kind_for,
    reshaped,
    scalar,
    step,
    write,
)

_MOST_AXES = 4


def reduced_axes(e: Emission, node: ir.Node) -> list[int]:
    """Returns the axes that a Reduce node goes over, counted from the front."""
    rank = len(e.shape(node, 0))
    axes = argument(e, node, 1, "axes")
    if not axes:
        return [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted({axis % rank for axis in axes})


def _reduction(op: str, kinds: Sequence[str] = NUMBERS, boolean: str = "") -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        data, axes = e.input(node, 0), reduced_axes(e, node)
        if not axes:
            copy(e, node, data)
            return
        logical = boolean and e.tensor(data).dtype == "bool"
        keep = bool(attribute(node, "keepdims", 1))
        compute(
            e,
            node,
            boolean if logical else op,
            [data],
            ("bool",) if logical else kinds,
            "ReducerOptions",
            fixed=[ints(e, axes, "axes")],
            keepDims=keep,
        )

    return rule


def _extreme(op: str, options: str) -> Rule:
    """ARG_MAX or ARG_MIN; they find the first of equal ones, in the reversed tensor the last."""

    def rule(e: Emission, node: ir.Node) -> None:
        shape = e.shape(node, 0)
        axis = attribute(node, "axis", 0) % len(shape)
        data = e.input(node, 0)
        if e.tensor(data).quantisation is None:
            data = cast(e, data, kind_for(e.tensor(data).dtype, (FLOAT, INT), node))
        last = attribute(node, "select_last_index", 0)
        if last:
            data = step(e, "REVERSE_V2", [data, ints(e, [axis], "axis")], options="ReverseV2Options")
        less = [size for index, size in enumerate(shape) if index != axis]
        at = scalar(e, axis, INT, "axis")
        found = step(e, op, [data, at], less, options, dtype=LONG, outputType=e.file.schema.TensorType.INT64)
        if last:
            end = scalar(e, shape[axis] - 1, LONG, "end")
            found = step(e, "SUB", [end, found], less, "SubOptions")
        copy(e, node, found)

    return rule


def top_k(e: Emission, node: ir.Node) -> None:
    """TOPK_V2 along the last axis; the smallest are the largest of the negated."""
    data = e.input(node, 0)
    rank = len(e.shape(node, 0))
    axis = attribute(node, "axis", -1) % rank
    largest = attribute(node, "largest", 1)
    if e.tensor(data).quantisation is None:
        data = cast(e, data, kind_for(e.tensor(data).dtype, NUMBERS, node))
    if axis != rank - 1:
        data = turned(e, data, axis)
    if not largest:
        data = step(e, "NEG", [data], options="NegOptions")
    count = int(fixed_input(e, node, 1, "K").reshape(-1)[0])
    shape = [*e.tensor(data).shape[:-1], count]
    values = e.temp(data, shape, f"{node.name}/values")
    indices = e.temp(data, shape, f"{node.name}/indices", INT)
    e.op("TOPK_V2", [data, scalar(e, count, INT, "k")], [values, indices], "TopKV2Options")
    if not largest:
        values = step(e, "NEG", [values], options="NegOptions")
    for index, made in enumerate((values, indices)):
        value = node.outputs[index] if index < len(node.outputs) else None
        if value is not None and (value.uses() or value.is_graph_output()):
            _give(e, node, index, turned(e, made, axis) if axis != rank - 1 else made)


def _give(e: Emission, node: ir.Node, index: int, made: int) -> None:
    out = e.output(node, index)
    shape = list(e.tensor(out).shape)
    if e.tensor(out).dtype != e.tensor(made).dtype:
        e.op("CAST", [made], [out], "CastOptions")
    else:
        e.op("RESHAPE", [made, ints(e, shape, "shape")], [out], "ReshapeOptions", newShape=shape)


def cumulative(e: Emission, node: ir.Node) -> None:
    """CUMSUM."""
    axis = int(fixed_input(e, node, 1, "axis").reshape(-1)[0]) % max(len(e.shape(node, 0)), 1)
    compute(
        e,
        node,
        "CUMSUM",
        [e.input(node, 0)],
        NUMBERS,
        "CumsumOptions",
        fixed=[scalar(e, axis, INT, "axis")],
        exclusive=bool(attribute(node, "exclusive", 0)),
        reverse=bool(attribute(node, "reverse", 0)),
    )


def one_hot(e: Emission, node: ir.Node) -> None:
    """ONE_HOT; negative indices count from the end."""
    depth = int(fixed_input(e, node, 1, "depth").reshape(-1)[0])
    indices = cast(e, e.input(node, 0), INT)
    below = step(e, "LESS", [indices, scalar(e, 0, INT)], options="LessOptions", dtype="bool")
    more = step(e, "ADD", [indices, scalar(e, depth, INT)], options="AddOptions")
    wrapped = e.temp(indices, e.tensor(indices).shape, f"{node.name}/wrapped")
    e.op("SELECT_V2", [below, more, indices], [wrapped], "SelectV2Options")
    values = e.input(node, 2)
    off, on = (_one(e, values, index) for index in (0, 1))
    axis = attribute(node, "axis", -1)
    rank = len(e.out_shape(node))
    kind = e.tensor(values).dtype
    write(
        e,
        node,
        "ONE_HOT",
        [wrapped, scalar(e, depth, INT, "depth"), on, off],
        kind,
        "OneHotOptions",
        axis=axis if axis == -1 else axis % rank,
    )


def _one(e: Emission, values: int, index: int) -> int:
    begin, size = ints(e, [index], "begin"), ints(e, [1], "one")
    return reshaped(e, step(e, "SLICE", [values, begin, size], [1], "SliceOptions"), [])


def _along_last(op: str, options: str = "", **fields: Any) -> Rule:
    """Kernels know the last axis only: another is exchanged with it before and after; many axes are joined."""

    def rule(e: Emission, node: ir.Node) -> None:
        rank = len(e.shape(node, 0))
        axis = attribute(node, "axis", -1) % rank
        data, out = e.input(node, 0), e.output(node)
        if axis == rank - 1 and rank <= _MOST_AXES:
            e.op(op, [data], [out], options, **fields)
            return
        made = turned(e, data, axis) if axis != rank - 1 else data
        shape = e.tensor(made).shape
        if rank > _MOST_AXES:
            made = reshaped(e, made, [int(np.prod(shape[:-1])), shape[-1]])
        done = e.temp(out, e.tensor(made).shape, f"{node.name}/rows")
        e.op(op, [made], [done], options, **fields)
        if axis == rank - 1:
            copy(e, node, done)
            return
        done = reshaped(e, done, shape)
        e.op("TRANSPOSE", [done, ints(e, swapped(axis, rank), "perm")], [out], "TransposeOptions")

    return rule


def turned(e: Emission, tensor: int, axis: int) -> int:
    """Returns a tensor with `axis` exchanged with the last."""
    shape = e.tensor(tensor).shape
    order = swapped(axis, len(shape))
    return step(e, "TRANSPOSE", [tensor, ints(e, order, "perm")], [shape[i] for i in order], "TransposeOptions")


def swapped(axis: int, rank: int) -> list[int]:
    """Returns the order of axes that exchanges one with the last; its own inverse."""
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    return order


RULES: Rules = {
    ("", "ReduceSum"): _reduction("SUM"),
    ("", "ReduceMean"): _reduction("MEAN"),
    ("", "ReduceProd"): _reduction("REDUCE_PROD"),
    ("", "ReduceMax"): _reduction("REDUCE_MAX", NUMBERS, "REDUCE_ANY"),
    ("", "ReduceMin"): _reduction("REDUCE_MIN", NUMBERS, "REDUCE_ALL"),
    ("", "ArgMax"): _extreme("ARG_MAX", "ArgMaxOptions"),
    ("", "ArgMin"): _extreme("ARG_MIN", "ArgMinOptions"),
    ("", "TopK"): top_k,
    ("", "CumSum"): cumulative,
    ("", "OneHot"): one_hot,
    ("", "Softmax"): _along_last("SOFTMAX", "SoftmaxOptions", beta=1.0),
    ("", "LogSoftmax"): _along_last("LOG_SOFTMAX", "LogSoftmaxOptions"),
    ("", "LpNormalization"): _along_last("L2_NORMALIZATION", "L2NormOptions"),
}
