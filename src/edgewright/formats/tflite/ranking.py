"""Rules for operators that search, sort, count and sum along an axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule, ints, scalar, value_of, wide_integers
from edgewright.formats.tflite.reader import TfliteOperator


def arg_extreme(kind: str) -> Rule:
    """Returns the rule for ARG_MAX or ARG_MIN; the index type is the file's, of equal values the first counts."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        name, axis = e.tensor(op.outputs[0]).name, scalar(e, op.inputs[1]) % len(e.tensor(op.inputs[0]).shape)
        first = axis == 3 and e.has_first(op.inputs[0])
        source = value_of(e, op.inputs[0], first=first)
        wide = e.node(kind, [source], f"{name}_int64", axis=1 if first else axis, keepdims=0)
        e.store(op.outputs[0], _typed(e, op, wide, 0), first=False)

    return rule


def top_k(e: Emitter, op: TfliteOperator) -> None:
    """TOPK_V2 along the last axis."""
    names = [e.tensor(n).name for n in op.outputs]
    count = ints(e, [scalar(e, op.inputs[1])], names[0])
    values, places = e.node_of_many("TopK", [e.last(op.inputs[0]), count], [names[0], f"{names[1]}_int64"], axis=-1)
    e.store(op.outputs[0], values, first=False)
    e.store(op.outputs[1], _typed(e, op, places, 1), first=False)


def one_hot(e: Emitter, op: TfliteOperator) -> None:
    """ONE_HOT: inputs are indices, depth, and the values for on and off; OneHot of ONNX counts negative ones back."""
    name, rank_ = e.tensor(op.outputs[0]).name, len(e.tensor(op.outputs[0]).shape)
    axis = op.options["axis"] % rank_
    places = np.arange(scalar(e, op.inputs[1]), dtype=np.int64).reshape((-1,) + (1,) * (rank_ - 1 - axis))
    indices = e.node("Unsqueeze", [wide_integers(e, op.inputs[0]), ints(e, [axis], name)], f"{name}_indices")
    hit = e.node("Equal", [indices, e.constant(places, f"{name}_places")], f"{name}_hit")
    e.store(op.outputs[0], e.node("Where", [hit, e.last(op.inputs[2]), e.last(op.inputs[3])], name), first=False)


def cumsum(e: Emitter, op: TfliteOperator) -> None:
    """CUMSUM."""
    axis = e.constant(np.asarray(scalar(e, op.inputs[1]), np.int64), f"{e.tensor(op.outputs[0]).name}_axis")
    how = {"exclusive": int(op.options["exclusive"]), "reverse": int(op.options["reverse"])}
    made = e.node("CumSum", [e.last(op.inputs[0]), axis], e.tensor(op.outputs[0]).name, **how)
    e.store(op.outputs[0], made, first=False)


def shape(e: Emitter, op: TfliteOperator) -> None:
    """SHAPE; a constant where every axis is fixed."""
    source, target = e.tensor(op.inputs[0]), e.tensor(op.outputs[0])
    if not any(source.dynamic):
        e.fold(op.outputs[0], np.asarray(source.shape, target.dtype))
        return
    wide = e.node("Shape", [e.last(op.inputs[0])], f"{target.name}_int64")
    e.store(op.outputs[0], _typed(e, op, wide, 0), first=False)


def rank(e: Emitter, op: TfliteOperator) -> None:
    """RANK."""
    e.fold(op.outputs[0], np.asarray(len(e.tensor(op.inputs[0]).shape), e.tensor(op.outputs[0]).dtype))


def range_(e: Emitter, op: TfliteOperator) -> None:
    """RANGE from start to limit by delta."""
    made = e.node("Range", [e.last(n) for n in op.inputs], e.tensor(op.outputs[0]).name)
    e.store(op.outputs[0], made, first=False)


def _typed(e: Emitter, op: TfliteOperator, wide: ir.Value, output: int) -> ir.Value:
    """Returns indices in the type of the file."""
    tensor = e.tensor(op.outputs[output])
    to = ir.DataType.from_numpy(np.dtype(tensor.dtype))
    return e.node("Cast", [wide], tensor.name, to=int(to))


RULES: dict[str, Rule] = {
    "ARG_MAX": arg_extreme("ArgMax"),
    "ARG_MIN": arg_extreme("ArgMin"),
    "TOPK_V2": top_k,
    "ONE_HOT": one_hot,
    "CUMSUM": cumsum,
    "SHAPE": shape,
    "RANK": rank,
    "RANGE": range_,
}
