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
        times = e.node("Floor", [e.node("Div", values, f"{name}_ratio")], f"{name}_times")
        made = e.node("Sub", [values[0], e.node("Mul", [times, values[1]], f"{name}_whole")], name)
    e.store(op.outputs[0], made, first=first)


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
