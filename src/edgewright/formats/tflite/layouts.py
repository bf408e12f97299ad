"""What rules ask of the two layouts: names, axes, and values in either."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir

from edgewright.formats.tflite.emitter import TO_FIRST, Emitter
from edgewright.formats.tflite.reader import TfliteOperator

Rule = Callable[[Emitter, TfliteOperator], None]


def ints(e: Emitter, values: Iterable[int], name: str) -> ir.Value:
    """Returns a constant of 64-bit integers."""
    return e.constant(np.asarray(list(values), np.int64), f"{name}_ints")


def value_of(e: Emitter, number: int, *, first: bool) -> ir.Value:
    """Returns a tensor channels-first or in the file's layout."""
    return e.first(number) if first else e.last(number)


def axis_of(axis: int, rank: int, *, first: bool) -> int:
    """Returns where an axis of the file's layout lies."""
    axis %= rank
    return TO_FIRST.index(axis) if first else axis


def name_of(e: Emitter, op: TfliteOperator, *, first: bool, output: int = 0) -> str:
    """Returns the name for an output of an operator."""
    name = e.tensor(op.outputs[output]).name
    return f"{name}_nchw" if first else name


def scalar(e: Emitter, number: int) -> int:
    """Returns the single integer that a constant tensor holds."""
    return int(e.need_array(number).reshape(-1)[0])


def operands(e: Emitter, op: TfliteOperator) -> tuple[bool, list[ir.Value]]:
    """Returns whether to work channels-first, and the inputs in that layout."""
    first = len(e.tensor(op.outputs[0]).shape) == 4 and any(e.has_first(n) for n in op.inputs)
    if first and all(e.array(n) is not None or len(e.tensor(n).shape) == 4 for n in op.inputs):
        return True, [_first(e, n) for n in op.inputs]
    return False, [e.last(n) for n in op.inputs]


def wide_integers(e: Emitter, number: int) -> ir.Value:
    """Returns indices, sizes or counts as 64-bit integers, which ONNX asks for where TensorFlow Lite has 32."""
    value = e.array(number)
    if value is not None:
        return e.constant(value.astype(np.int64), f"{e.tensor(number).name}_ints")
    if e.tensor(number).dtype == "int64":
        return e.last(number)
    return e.node("Cast", [e.last(number)], f"{e.tensor(number).name}_int64", to=int(ir.DataType.INT64))


def _first(e: Emitter, number: int) -> ir.Value:
    value = e.array(number)
    return e.first(number) if value is None else e.weights(number, TO_FIRST, (1,) * (4 - value.ndim) + value.shape)
