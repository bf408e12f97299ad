"""Rules for operators that work element by element: any layout, so they keep the one that is there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule, ints, name_of, operands
from edgewright.formats.tflite.reader import TfliteOperator


def unary(kind: str) -> Rule:
    """Returns the rule for an operator of one input that ONNX has too."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, (value,) = operands(e, op)
        e.store(op.outputs[0], e.node(kind, [value], name_of(e, op, first=first)), first=first)

    return rule


def binary(kind: str) -> Rule:
    """Returns the rule for an operator of two inputs with broadcasting."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, values = operands(e, op)
        value = e.node(kind, values, name_of(e, op, first=first))
        e.store(op.outputs[0], value, first=first, activation=op.options.get("activation", 0))

    return rule


def activation(e: Emitter, op: TfliteOperator) -> None:
    """RELU, RELU6 and the like."""
    first, (value,) = operands(e, op)
    e.store(op.outputs[0], e.activation(op.op, value, name_of(e, op, first=first)), first=first)


def leaky_relu(e: Emitter, op: TfliteOperator) -> None:
    """LEAKY_RELU."""
    first, (value,) = operands(e, op)
    made = e.node("LeakyRelu", [value], name_of(e, op, first=first), alpha=float(op.options["alpha"]))
    e.store(op.outputs[0], made, first=first)


def square(e: Emitter, op: TfliteOperator) -> None:
    """SQUARE."""
    first, (value,) = operands(e, op)
    e.store(op.outputs[0], e.node("Mul", [value, value], name_of(e, op, first=first)), first=first)


def squared_difference(e: Emitter, op: TfliteOperator) -> None:
    """SQUARED_DIFFERENCE."""
    first, values = operands(e, op)
    name = name_of(e, op, first=first)
    difference = e.node("Sub", values, f"{name}_difference")
    e.store(op.outputs[0], e.node("Mul", [difference, difference], name), first=first)


def rsqrt(e: Emitter, op: TfliteOperator) -> None:
    """RSQRT."""
    first, (value,) = operands(e, op)
    name = name_of(e, op, first=first)
    e.store(op.outputs[0], e.node("Reciprocal", [e.node("Sqrt", [value], f"{name}_sqrt")], name), first=first)


def gelu(e: Emitter, op: TfliteOperator) -> None:
    """GELU, exact or in its tanh approximation (Hendrycks and Gimpel, 2016)."""
    first, (value,) = operands(e, op)
    e.need_opset(20)
    how = "tanh" if op.options["approximate"] else "none"
    e.store(op.outputs[0], e.node("Gelu", [value], name_of(e, op, first=first), approximate=how), first=first)


def negated(kind: str) -> Rule:
    """Returns the rule for an operator that ONNX has as the negation of another."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        first, values = operands(e, op)
        name = name_of(e, op, first=first)
        e.store(op.outputs[0], e.node("Not", [e.node(kind, values, f"{name}_negated")], name), first=first)

    return rule


def floor_div(e: Emitter, op: TfliteOperator) -> None:
    """FLOOR_DIV: rounded towards minus infinity, where division of integers in ONNX rounds towards 0."""
    first, values = operands(e, op)
    name = name_of(e, op, first=first)
    if _whole(e, op):
        rest = e.node("Mod", values, f"{name}_rest")
        whole = e.node("Sub", [values[0], rest], f"{name}_whole")
        made = e.node("Div", [whole, values[1]], name)
    else:
        made = e.node("Floor", [e.node("Div", values, f"{name}_ratio")], name)
    e.store(op.outputs[0], made, first=first)


def floor_mod(e: Emitter, op: TfliteOperator) -> None:
    """FLOOR_MOD: the rest has the sign of the divisor."""
    first, values = operands(e, op)
    name = name_of(e, op, first=first)
    if _whole(e, op):
        made = e.node("Mod", values, name)
    else:
        rest = e.node("Mod", values, f"{name}_rest", fmod=1)
        zero = e.constant(np.zeros((), np.float32), f"{name}_zero")
        signs = [e.node("Less", [v, zero], f"{name}_negative") for v in (rest, values[1])]
        other = e.node("And", [e.node("Xor", signs, f"{name}_differ"), _other(e, rest, zero, name)], f"{name}_wrong")
        made = e.node("Where", [other, e.node("Add", [rest, values[1]], f"{name}_turned"), rest], name)
    e.store(op.outputs[0], made, first=first)


def _other(e: Emitter, value: ir.Value, than: ir.Value, name: str) -> ir.Value:
    return e.node("Not", [e.node("Equal", [value, than], f"{name}_equal")], f"{name}_other")


def l2_normalization(e: Emitter, op: TfliteOperator) -> None:
    """L2_NORMALIZATION over the channels."""
    first, (value,) = operands(e, op)
    made = e.node("LpNormalization", [value], name_of(e, op, first=first), axis=1 if first else -1, p=2)
    e.store(op.outputs[0], made, first=first, activation=op.options["activation"])


def select(e: Emitter, op: TfliteOperator) -> None:
    """SELECT and SELECT_V2; a condition of one axis in SELECT chooses whole rows."""
    rank = len(e.tensor(op.outputs[0]).shape)
    name = name_of(e, op, first=False)
    if op.op == "SELECT" and len(e.tensor(op.inputs[0]).shape) == 1 < rank:
        lanes = ints(e, [-1] + [1] * (rank - 1), name)
        rows = e.node("Reshape", [e.last(op.inputs[0]), lanes], f"{name}_rows")
        first, values = False, [rows, *(e.last(n) for n in op.inputs[1:])]
    else:
        first, values = operands(e, op)
    e.store(op.outputs[0], e.node("Where", values, name_of(e, op, first=first)), first=first)


def atan2(e: Emitter, op: TfliteOperator) -> None:
    """ATAN2: the angle of the point (second input, first input), from the arc tangent of their ratio."""
    first, (y, x) = operands(e, op)
    name = name_of(e, op, first=first)

    def number(value: float) -> ir.Value:
        return e.constant(np.asarray(value, np.float32), f"{name}_constant")

    below = e.node("Less", [y, number(0)], f"{name}_below")
    turn = e.node("Where", [below, number(-np.pi), number(np.pi)], f"{name}_turn")
    flat = e.node("Atan", [e.node("Div", [y, x], f"{name}_ratio")], f"{name}_flat")
    left = e.node("Where", [e.node("Less", [x, number(0)], f"{name}_left"), turn, number(0)], f"{name}_added")
    angle = e.node("Add", [flat, left], f"{name}_angle")
    origin = e.node("And", [_zero(e, x, name), _zero(e, y, name)], f"{name}_origin")
    e.store(op.outputs[0], e.node("Where", [origin, number(0), angle], name), first=first)


def _zero(e: Emitter, value: ir.Value, name: str) -> ir.Value:
    return e.node("Equal", [value, e.constant(np.zeros((), np.float32), f"{name}_zero")], f"{name}_is_zero")


def right_shift(e: Emitter, op: TfliteOperator) -> None:
    """RIGHT_SHIFT: of signed integers the quotient rounded down, since ONNX shifts unsigned ones only."""
    first, values = operands(e, op)
    name, dtype = name_of(e, op, first=first), np.dtype(e.tensor(op.outputs[0]).dtype)
    if dtype.kind == "u":
        made = e.node("BitShift", values, name, direction="RIGHT")
    else:
        wide = [e.node("Cast", [v], f"{name}_wide", to=int(ir.DataType.DOUBLE)) for v in values]
        power = e.node("Pow", [e.constant(np.asarray(2.0, np.float64), f"{name}_two"), wide[1]], f"{name}_power")
        quotient = e.node("Floor", [e.node("Div", [wide[0], power], f"{name}_quotient")], f"{name}_floor")
        made = e.node("Cast", [quotient], name, to=int(ir.DataType.from_numpy(dtype)))
    e.store(op.outputs[0], made, first=first)


def bitwise_xor(e: Emitter, op: TfliteOperator) -> None:
    """BITWISE_XOR."""
    first, values = operands(e, op)
    kind = "Xor" if e.tensor(op.outputs[0]).dtype == "bool" else "BitwiseXor"
    e.store(op.outputs[0], e.node(kind, values, name_of(e, op, first=first)), first=first)


def zeros_like(e: Emitter, op: TfliteOperator) -> None:
    """ZEROS_LIKE."""
    first, (value,) = operands(e, op)
    e.store(op.outputs[0], e.node("Sub", [value, value], name_of(e, op, first=first)), first=first)


def _whole(e: Emitter, op: TfliteOperator) -> bool:
    return np.dtype(e.tensor(op.outputs[0]).dtype).kind in "iu" and not e.tensor(op.outputs[0]).scaled


def cast(e: Emitter, op: TfliteOperator) -> None:
    """CAST."""
    first, (value,) = operands(e, op)
    to = ir.DataType.from_numpy(np.dtype(e.tensor(op.outputs[0]).dtype))
    e.store(op.outputs[0], e.node("Cast", [value], name_of(e, op, first=first), to=int(to)), first=first)


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
    "ATAN2": atan2,
    "BITWISE_XOR": bitwise_xor,
    "RIGHT_SHIFT": right_shift,
    "FLOOR_DIV": floor_div,
    "FLOOR_MOD": floor_mod,
    "L2_NORMALIZATION": l2_normalization,
    "NOT_EQUAL": negated("Equal"),
    "SELECT": select,
    "SELECT_V2": select,
    "ZEROS_LIKE": zeros_like,
    "CAST": cast,
    **{
        name: unary(kind)
        for name, kind in {
            "ABS": "Abs",
            "CEIL": "Ceil",
            "COS": "Cos",
            "ELU": "Elu",
            "EXP": "Exp",
            "FLOOR": "Floor",
            "HARD_SWISH": "HardSwish",
            "LOG": "Log",
            "LOGICAL_NOT": "Not",
            "LOGISTIC": "Sigmoid",
            "NEG": "Neg",
            "ROUND": "Round",
            "SIGN": "Sign",
            "SIN": "Sin",
            "SQRT": "Sqrt",
            "TANH": "Tanh",
        }.items()
    },
    **{
        name: binary(kind)
        for name, kind in {
            "ADD": "Add",
            "ADD_N": "Sum",
            "SUB": "Sub",
            "MUL": "Mul",
            "DIV": "Div",
            "MAXIMUM": "Max",
            "MINIMUM": "Min",
            "POW": "Pow",
            "PRELU": "PRelu",
            "EQUAL": "Equal",
            "GREATER": "Greater",
            "GREATER_EQUAL": "GreaterOrEqual",
            "LESS": "Less",
            "LESS_EQUAL": "LessOrEqual",
            "LOGICAL_AND": "And",
            "LOGICAL_OR": "Or",
        }.items()
    },
}
