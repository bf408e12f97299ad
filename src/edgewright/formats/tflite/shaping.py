"""Rules for operators about shape and order, reductions, and matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import TO_FIRST, TO_LAST, Emitter
from edgewright.formats.tflite.layouts import Rule, axis_of, ints, name_of, value_of, wide_integers
from edgewright.formats.tflite.reader import TfliteOperator
from edgewright.formats.tflite.spatial import bias


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
            source = e.node("Reshape", [source, ints(e, [-1, width], name)], f"{name}_rows")
            source = e.rounded(op.inputs[0], source)
        value = e.node("Gemm", [source, e.last(op.inputs[1]), *products], name, transB=1)
    e.store(op.outputs[0], value, first=False, activation=op.options["activation"])


def _turned(e: Emitter, number: int) -> ir.Value:
    """Returns a tensor with its last two axes exchanged."""
    rank = len(e.tensor(number).shape)
    return e.weights(number, (*range(rank - 2), rank - 1, rank - 2))


def reshape(e: Emitter, op: TfliteOperator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: the file's output shape; a dynamic batch stays dynamic."""
    before, after = e.tensor(op.inputs[0]), e.tensor(op.outputs[0])
    shape = [-1 if free else size for size, free in zip(after.shape, after.dynamic, strict=True)]
    if shape and before.shape and after.dynamic[0] and before.dynamic[0]:
        shape[0] = 0  # copied from the input
    target = ints(e, shape, after.name)
    if shape.count(-1) > 1:
        if len(op.inputs) < 2 or op.op != "RESHAPE":
            raise SourceError(
                f'tensor "{after.name}": {len(shape)} axes stay open', hint="convert the model with fixed sizes"
            )
        target = wide_integers(e, op.inputs[1])
    same_order = len(before.shape) == 4 and (before.shape[3] == 1 or before.shape[1:3] == (1, 1))
    source = e.first(op.inputs[0]) if same_order and e.has_first(op.inputs[0]) else e.last(op.inputs[0])
    e.store(op.outputs[0], e.node("Reshape", [source, target], after.name), first=False)


def transpose(e: Emitter, op: TfliteOperator) -> None:
    """TRANSPOSE; one between the two layouts only renames what is there."""
    name, order = e.tensor(op.outputs[0]).name, tuple(int(n) for n in e.need_array(op.inputs[1]))
    same = e.tensor(op.inputs[0]).scale == e.tensor(op.outputs[0]).scale
    if order == TO_LAST and same and e.array(op.inputs[0]) is None:
        e.alias(op.outputs[0], e.last(op.inputs[0]), first=True)
    elif order == TO_FIRST and same and e.has_first(op.inputs[0]):
        e.alias(op.outputs[0], e.first(op.inputs[0]), first=False)
    else:
        source = op.inputs[0]
        from_first = e.has_first(source) and not e.has_last(source)
        perm = tuple(TO_LAST[axis] for axis in order) if from_first else order
        value = value_of(e, source, first=from_first)
        e.store(op.outputs[0], e.node("Transpose", [value], name, perm=perm), first=False)


def pad(e: Emitter, op: TfliteOperator) -> None:
    """PAD, PADV2 and MIRROR_PAD with constant amounts [[before, after] per axis]."""
    amounts, first = e.need_array(op.inputs[1]), e.has_first(op.inputs[0])
    amounts = amounts[list(TO_FIRST)] if first else amounts
    name = name_of(e, op, first=first)
    inputs = [value_of(e, op.inputs[0], first=first), ints(e, [int(n) for n in amounts.T.reshape(-1)], name)]
    mode = "constant"
    if op.op == "MIRROR_PAD":
        if op.options["mode"] == 1:
            e.store(op.outputs[0], _symmetric(e, inputs[0], amounts, name), first=first)
            return
        mode = "reflect"
    elif len(op.inputs) > 2:
        inputs.append(e.last(op.inputs[2]))
    e.store(op.outputs[0], e.node("Pad", inputs, name, mode=mode), first=first)


def _symmetric(e: Emitter, value: ir.Value, amounts: NDArray[Any], name: str) -> ir.Value:
    """Returns `value` mirrored at its edges, the edge itself repeated; ONNX has no such mode."""
    widest = int(amounts.max(initial=0))
    if widest > 1:
        raise SourceError(f'tensor "{name}": symmetric padding by {widest}', hint="use reflecting padding, or pad by 1")
    pads = ints(e, [int(n) for n in amounts.T.reshape(-1)], name)
    return e.node("Pad", [value, pads], name, mode="edge")


def concatenation(e: Emitter, op: TfliteOperator) -> None:
    """CONCATENATION."""
    rank = len(e.tensor(op.outputs[0]).shape)
    first = rank == 4 and any(e.has_first(n) for n in op.inputs)
    axis = axis_of(op.options["axis"], rank, first=first)
    values = [value_of(e, n, first=first) for n in op.inputs]
    made = e.node("Concat", values, name_of(e, op, first=first), axis=axis)
    e.store(op.outputs[0], made, first=first, activation=op.options["activation"])


def softmax(kind: str) -> Rule:
    """Returns the rule for SOFTMAX or LOG_SOFTMAX over the last axis."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first = e.has_first(op.inputs[0])
        name, value = name_of(e, op, first=first), value_of(e, op.inputs[0], first=first)
        beta = op.options.get("beta", 1.0)
        if beta != 1.0:
            value = e.node("Mul", [value, e.constant(np.asarray(beta, np.float32), f"{name}_beta")], f"{name}_scaled")
        e.store(op.outputs[0], e.node(kind, [value], name, axis=1 if first else -1), first=first)

    return rule


def reduction(kind: str) -> Rule:
    """Returns the rule for MEAN and its like over constant axes."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, value = _reduced(e, op, kind, None)
        e.store(op.outputs[0], value, first=first)

    return rule


def logical_reduction(kind: str) -> Rule:
    """Returns the rule for REDUCE_ANY (`ReduceMax`) or REDUCE_ALL (`ReduceMin`), which ONNX has for numbers only."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, value = _reduced(e, op, kind, ir.DataType.INT32)
        made = e.node("Cast", [value], name_of(e, op, first=first), to=int(ir.DataType.BOOL))
        e.store(op.outputs[0], made, first=first)

    return rule


def _reduced(e: Emitter, op: TfliteOperator, kind: str, through: ir.DataType | None) -> tuple[bool, ir.Value]:
    """Returns the layout and value of a reduction, computed in the type `through` where one is given."""
    rank, keep = len(e.tensor(op.inputs[0]).shape), bool(op.options["keep_dims"])
    axes = sorted({int(n) % rank for n in np.atleast_1d(e.need_array(op.inputs[1]))} if rank else ())
    from_first = e.has_first(op.inputs[0]) and (keep or axes in ([1, 2], [3], [1, 2, 3]))
    first = from_first and keep
    name, value = name_of(e, op, first=first), value_of(e, op.inputs[0], first=from_first)
    if through is not None:
        value = e.node("Cast", [value], f"{name}_numbers", to=int(through))
    inputs = [value, ints(e, sorted(axis_of(a, rank, first=from_first) for a in axes), name)]
    name = name if through is None else f"{name}_reduced"
    return first, e.node(kind, inputs, name, keepdims=int(keep), noop_with_empty_axes=1)


def batch_matmul(e: Emitter, op: TfliteOperator) -> None:
    """BATCH_MATMUL: products of the last two axes, either turned first."""
    name = e.tensor(op.outputs[0]).name
    turned = (op.options["adj_x"], op.options["adj_y"])
    values = [_turned(e, n) if turn else e.last(n) for n, turn in zip(op.inputs, turned, strict=True)]
    e.store(op.outputs[0], e.node("MatMul", values, name), first=False)


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
    "REDUCE_PROD": reduction("ReduceProd"),
    "REDUCE_ANY": logical_reduction("ReduceMax"),
    "REDUCE_ALL": logical_reduction("ReduceMin"),
    "BATCH_MATMUL": batch_matmul,
}
