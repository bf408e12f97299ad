"""Rules for operators that work element by element: any layout, so they keep the one that is there."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgewright.formats.tflite.emitter import TO_FIRST, Emitter
from edgewright.formats.tflite.reader import TfliteOperator

Rule = Callable[[Emitter, TfliteOperator], None]


def unary(kind: str) -> Rule:
    """Returns the rule for an operator of one input that ONNX has too."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, (value,) = operands(e, op)
        e.store(op.outputs[0], e.node(kind, [value], _name(e, op, first=first)), first=first)

    return rule


def binary(kind: str) -> Rule:
    """Returns the rule for an operator of two inputs with broadcasting."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, values = operands(e, op)
        value = e.node(kind, values, _name(e, op, first=first))
        e.store(op.outputs[0], value, first=first, activation=op.options.get("activation", 0))

    return rule


def activation(e: Emitter, op: TfliteOperator) -> None:
    """RELU, RELU6 and the like."""
    first, (value,) = operands(e, op)
    e.store(op.outputs[0], e.activation(op.op, value, _name(e, op, first=first)), first=first)


def leaky_relu(e: Emitter, op: TfliteOperator) -> None:
    """LEAKY_RELU."""
    first, (value,) = operands(e, op)
    made = e.node("LeakyRelu", [value], _name(e, op, first=first), alpha=float(op.options["alpha"]))
    e.store(op.outputs[0], made, first=first)


def square(e: Emitter, op: TfliteOperator) -> None:
    """SQUARE."""
    first, (value,) = operands(e, op)
    e.store(op.outputs[0], e.node("Mul", [value, value], _name(e, op, first=first)), first=first)


def squared_difference(e: Emitter, op: TfliteOperator) -> None:
    """SQUARED_DIFFERENCE."""
    first, values = operands(e, op)
    name = _name(e, op, first=first)
    difference = e.node("Sub", values, f"{name}_difference")
    e.store(op.outputs[0], e.node("Mul", [difference, difference], name), first=first)


def rsqrt(e: Emitter, op: TfliteOperator) -> None:
    """RSQRT."""
    first, (value,) = operands(e, op)
    name = _name(e, op, first=first)
    e.store(op.outputs[0], e.node("Reciprocal", [e.node("Sqrt", [value], f"{name}_sqrt")], name), first=first)


def gelu(e: Emitter, op: TfliteOperator) -> None:
    """GELU: x/2 (1 + erf(x / sqrt 2)), or the tanh approximation (Hendrycks and Gimpel, 2016)."""
    first, (x,) = operands(e, op)
    name = _name(e, op, first=first)

    def number(value: float) -> ir.Value:
        return e.constant(np.asarray(value, np.float32), f"{name}_constant")

    if op.options["approximate"]:
        cube = e.node("Mul", [e.node("Mul", [x, x], f"{name}_square"), x], f"{name}_cube")
        inner = e.node("Add", [x, e.node("Mul", [cube, number(0.044715)], f"{name}_scaled")], f"{name}_inner")
        bent = e.node("Tanh", [e.node("Mul", [inner, number(math.sqrt(2 / math.pi))], f"{name}_arg")], f"{name}_tanh")
    else:
        bent = e.node("Erf", [e.node("Mul", [x, number(math.sqrt(0.5))], f"{name}_arg")], f"{name}_erf")
    half = e.node("Mul", [x, number(0.5)], f"{name}_half")
    e.store(op.outputs[0], e.node("Mul", [half, e.node("Add", [bent, number(1.0)], f"{name}_gate")], name), first=first)


def cast(e: Emitter, op: TfliteOperator) -> None:
    """CAST."""
    first, (value,) = operands(e, op)
    to = ir.DataType.from_numpy(np.dtype(e.tensor(op.outputs[0]).dtype))
    e.store(op.outputs[0], e.node("Cast", [value], _name(e, op, first=first), to=int(to)), first=first)


def operands(e: Emitter, op: TfliteOperator) -> tuple[bool, list[ir.Value]]:
    """Returns whether to work channels-first, and the inputs in that layout."""
    first = len(e.tensor(op.outputs[0]).shape) == 4 and any(e.has_first(n) for n in op.inputs)
    if first and all(e.array(n) is not None or len(e.tensor(n).shape) == 4 for n in op.inputs):
        return True, [_first(e, n) for n in op.inputs]
    return False, [e.last(n) for n in op.inputs]


def _first(e: Emitter, number: int) -> ir.Value:
    value = e.array(number)
    return e.first(number) if value is None else e.weights(number, TO_FIRST, (1,) * (4 - value.ndim) + value.shape)


def _name(e: Emitter, op: TfliteOperator, *, first: bool) -> str:
    name = e.tensor(op.outputs[0]).name
    return f"{name}_nchw" if first else name


RULES: dict[str, Rule] = {
    "RELU": activation,
    "RELU6": activation,
    "RELU_N1_TO_1": activation,
    "RELU_0_TO_1": activation,
    "LEAKY_RELU": leaky_relu,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
    "RSQRT": rsqrt,
    "GELU": gelu,
    "CAST": cast,
    **{
        name: unary(kind)
        for name, kind in {
            "ABS": "Abs",
            "CEIL": "Ceil",
            "ELU": "Elu",
            "EXP": "Exp",
            "FLOOR": "Floor",
            "HARD_SWISH": "HardSwish",
            "LOG": "Log",
            "LOGISTIC": "Sigmoid",
            "NEG": "Neg",
            "SQRT": "Sqrt",
            "TANH": "Tanh",
        }.items()
    },
    **{
        name: binary(kind)
        for name, kind in {
            "ADD": "Add",
            "SUB": "Sub",
            "MUL": "Mul",
            "DIV": "Div",
            "MAXIMUM": "Max",
            "MINIMUM": "Min",
            "POW": "Pow",
            "PRELU": "PRelu",
        }.items()
    },
}
