"""Rules for operators about shape and order, reductions, and matrix products."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import TO_FIRST, TO_LAST, Emitter
from edgewright.formats.tflite.reader import TfliteOperator
from edgewright.formats.tflite.spatial import bias

Rule = Callable[[Emitter, TfliteOperator], None]


def fully_connected(e: Emitter, op: TfliteOperator) -> None:
    """FULLY_CONNECTED: weights [out, in]; inputs of another rank are flattened to [*, in]."""
    name, rank = e.tensor(op.outputs[0]).name, len(e.tensor(op.inputs[0]).shape)
    if op.options["weights_format"]:
        raise SourceError(
            f'tensor "{name}": shuffled weights are not supported', hint="convert without shuffled weights"
        )
    width, products = e.tensor(op.inputs[1]).shape[1], bias(e, op, 2, op.inputs[0])
    if op.options["keep_num_dims"] and rank > 2:
        value = e.node(
            "MatMul", [e.last(op.inputs[0]), _turned(e, op.inputs[1])], f"{name}_product" if products else name
        )
        value = e.node("Add", [value, *products], name) if products else value
    else:
        source = e.last(op.inputs[0])
        if rank != 2:
            source = e.node("Reshape", [source, _ints(e, [-1, width], name)], f"{name}_rows")
            source = e.rounded(op.inputs[0], source)
        value = e.node("Gemm", [source, e.last(op.inputs[1]), *products], name, transB=1)
    e.store(op.outputs[0], value, first=False, activation=op.options["activation"])


def _turned(e: Emitter, number: int) -> ir.Value:
    """Returns a matrix transposed."""
    if e.array(number) is not None:
        return e.weights(number, (1, 0))
    return e.rounded(number, e.node("Transpose", [e.last(number)], f"{e.tensor(number).name}_turned", perm=(1, 0)))


def reshape(e: Emitter, op: TfliteOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file's output shape; a dynamic batch stays dynamic."""
    before, after = e.tensor(op.inputs[0]), e.tensor(op.outputs[0])
    shape = [-1 if free else size for size, free in zip(after.shape, after.dynamic, strict=True)]
    if shape and before.shape and after.dynamic[0] and before.dynamic[0]:
        shape[0] = 0  # copied from the input
    if shape.count(-1) > 1:
        raise SourceError(
            f'tensor "{after.name}": {len(shape)} axes stay open', hint="convert the model with fixed sizes"
        )
    same_order = len(before.shape) == 4 and (before.shape[3] == 1 or before.shape[1:3] == (1, 1))
    source = e.first(op.inputs[0]) if same_order and e.has_first(op.inputs[0]) else e.last(op.inputs[0])
    e.store(op.outputs[0], e.node("Reshape", [source, _ints(e, shape, after.name)], after.name), first=False)


def transpose(e: Emitter, op: TfliteOperator) -> None:
    """TRANSPOSE; one between the two layouts only renames what is there."""
    name, order = e.tensor(op.outputs[0]).name, tuple(int(n) for n in e.need_array(op.inputs[1]))
    same = e.tensor(op.inputs[0]).scale == e.tensor(op.outputs[0]).scale
    if order == TO_LAST and same and e.array(op.inputs[0]) is None:
        e.alias(op.outputs[0], e.last(op.inputs[0]), first=True)
    elif order == TO_FIRST and same and e.has_first(op.inputs[0]):
        e.alias(op.outputs[0], e.first(op.inputs[0]), first=False)
    else:
        e.store(op.outputs[0], e.node("Transpose", [e.last(op.inputs[0])], name, perm=order), first=False)


def pad(e: Emitter, op: TfliteOperator) -> None:
    """PAD, PADV2 and MIRROR_PAD with constant amounts [[before, after] per axis]."""
    amounts, first = e.need_array(op.inputs[1]), e.has_first(op.inputs[0])
    amounts = amounts[list(TO_FIRST)] if first else amounts
    name = _name(e, op, first=first)
    inputs = [_value(e, op.inputs[0], first=first), _ints(e, [int(n) for n in amounts.T.reshape(-1)], name)]
    mode = "constant"
    if op.op == "MIRROR_PAD":
        mode = "edge" if op.options["mode"] == 1 and int(amounts.max(initial=0)) == 1 else "reflect"
        if op.options["mode"] == 1 and mode == "reflect":
            raise SourceError(f'tensor "{name}": symmetric padding by more than 1', hint="use reflecting padding")
    elif len(op.inputs) > 2:
        inputs.append(e.last(op.inputs[2]))
    e.store(op.outputs[0], e.node("Pad", inputs, name, mode=mode), first=first)


def concatenation(e: Emitter, op: TfliteOperator) -> None:
    """CONCATENATION."""
    rank = len(e.tensor(op.outputs[0]).shape)
    first = rank == 4 and any(e.has_first(n) for n in op.inputs)
    axis = _axis(op.options["axis"], rank, first=first)
    values = [_value(e, n, first=first) for n in op.inputs]
    made = e.node("Concat", values, _name(e, op, first=first), axis=axis)
    e.store(op.outputs[0], made, first=first, activation=op.options["activation"])


def softmax(kind: str) -> Rule:
    """Returns the rule for SOFTMAX or LOG_SOFTMAX over the last axis."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        name, value = e.tensor(op.outputs[0]).name, e.last(op.inputs[0])
        beta = op.options.get("beta", 1.0)
        if beta not in (0.0, 1.0):
            value = e.node("Mul", [value, e.constant(np.asarray(beta, np.float32), f"{name}_beta")], f"{name}_scaled")
        e.store(op.outputs[0], e.node(kind, [value], name, axis=-1), first=False)

    return rule


def reduction(kind: str) -> Rule:
    """Returns the rule for MEAN and its like over constant axes."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        rank, keep = len(e.tensor(op.inputs[0]).shape), bool(op.options["keep_dims"])
        axes = sorted(int(n) % rank for n in np.atleast_1d(e.need_array(op.inputs[1])))
        from_first = e.has_first(op.inputs[0]) and (keep or axes == [1, 2])
        onto = sorted(_axis(a, rank, first=from_first) for a in axes)
        first = from_first and keep
        name = _name(e, op, first=first)
        inputs = [_value(e, op.inputs[0], first=from_first), _ints(e, onto, name)]
        e.store(op.outputs[0], e.node(kind, inputs, name, keepdims=int(keep)), first=first)

    return rule


def strided_slice(e: Emitter, op: TfliteOperator) -> None:
    """STRIDED_SLICE and SLICE with constant bounds."""
    shape, name = e.tensor(op.inputs[0]).shape, e.tensor(op.outputs[0]).name
    if op.options.get("ellipsis_mask") or op.options.get("new_axis_mask"):
        raise SourceError(
            f'tensor "{name}": a slice with ellipsis or new axis', hint="write the slice with plain bounds"
        )
    bounds, dropped = _bounds(e, op, shape)
    first = e.has_first(op.inputs[0]) and not dropped
    value = _value(e, op.inputs[0], first=first)
    if bounds:
        axes = [_axis(a, len(shape), first=first) for a in bounds]
        columns = [list(column) for column in zip(*bounds.values(), strict=True)]
        parts = [_ints(e, part, name) for part in (columns[0], columns[1], axes, columns[2])]
        value = e.node("Slice", [value, *parts], _name(e, op, first=first) if not dropped else f"{name}_kept")
    else:
        value = e.node("Identity", [value], _name(e, op, first=first))
    if dropped:
        value = e.node("Squeeze", [value, _ints(e, dropped, name)], name)
    e.store(op.outputs[0], value, first=first)


def split(e: Emitter, op: TfliteOperator) -> None:
    """SPLIT into equal parts: inputs are axis and value."""
    rank, first = len(e.tensor(op.inputs[1]).shape), e.has_first(op.inputs[1])
    axis = _axis(int(e.need_array(op.inputs[0]).reshape(-1)[0]), rank, first=first)
    names = [f"{e.tensor(n).name}_nchw" if first else e.tensor(n).name for n in op.outputs]
    source = _value(e, op.inputs[1], first=first)
    parts = e.node_of_many("Split", [source], names, axis=axis, num_outputs=len(names))
    for number, value in zip(op.outputs, parts, strict=True):
        e.store(number, value, first=first)


def arg_max(e: Emitter, op: TfliteOperator) -> None:
    """ARG_MAX; the index type is the file's."""
    name, axis = e.tensor(op.outputs[0]).name, int(e.need_array(op.inputs[1]).reshape(-1)[0])
    wide = e.node("ArgMax", [e.last(op.inputs[0])], f"{name}_int64", axis=axis, keepdims=0)
    to = ir.DataType.from_numpy(np.dtype(e.tensor(op.outputs[0]).dtype))
    e.store(op.outputs[0], e.node("Cast", [wide], name, to=int(to)), first=False)


def _bounds(
    e: Emitter, op: TfliteOperator, shape: tuple[int, ...]
) -> tuple[dict[int, tuple[int, int, int]], list[int]]:
    """Returns axis -> (start, end, step) where the axis is not taken whole, and the axes that vanish."""
    begin, other = ([int(n) for n in e.need_array(number)] for number in op.inputs[1:3])
    if op.op == "SLICE":
        ends = [size if length < 0 else start + length for start, length, size in zip(begin, other, shape, strict=True)]
        taken = {axis: (start, end, 1) for axis, (start, end) in enumerate(zip(begin, ends, strict=True))}
    else:
        steps = [int(n) for n in e.need_array(op.inputs[3])]
        taken = {a: _strided(op, a, *bound) for a, bound in enumerate(zip(begin, other, steps, strict=True))}
    bounds = {
        a: (low, high, step) for a, (low, high, step) in taken.items() if (low, step) != (0, 1) or high < shape[a]
    }
    dropped = [axis for axis in taken if op.options.get("shrink_axis_mask", 0) >> axis & 1]
    return bounds, dropped


def _strided(op: TfliteOperator, axis: int, start: int, stop: int, step: int) -> tuple[int, int, int]:
    last = 2**31 - 1
    if op.options["shrink_axis_mask"] >> axis & 1:
        return start, last if start == -1 else start + 1, 1
    low = (0 if step > 0 else last) if op.options["begin_mask"] >> axis & 1 else start
    high = (last if step > 0 else -last) if op.options["end_mask"] >> axis & 1 else stop
    return low, high, step


def _ints(e: Emitter, values: list[int], name: str) -> ir.Value:
    return e.constant(np.asarray(values, np.int64), f"{name}_ints")


def _value(e: Emitter, number: int, *, first: bool) -> ir.Value:
    return e.first(number) if first else e.last(number)


def _axis(axis: int, rank: int, *, first: bool) -> int:
    axis %= rank
    return TO_FIRST.index(axis) if first else axis


def _name(e: Emitter, op: TfliteOperator, *, first: bool) -> str:
    name = e.tensor(op.outputs[0]).name
    return f"{name}_nchw" if first else name


RULES: dict[str, Rule] = {
    "FULLY_CONNECTED": fully_connected,
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "EXPAND_DIMS": reshape,
    "TRANSPOSE": transpose,
    "PAD": pad,
    "PADV2": pad,
    "MIRROR_PAD": pad,
    "CONCATENATION": concatenation,
    "SOFTMAX": softmax("Softmax"),
    "LOG_SOFTMAX": softmax("LogSoftmax"),
    "MEAN": reduction("ReduceMean"),
    "SUM": reduction("ReduceSum"),
    "REDUCE_MAX": reduction("ReduceMax"),
    "REDUCE_MIN": reduction("ReduceMin"),
    "STRIDED_SLICE": strided_slice,
    "SLICE": strided_slice,
    "SPLIT": split,
    "ARG_MAX": arg_max,
}
