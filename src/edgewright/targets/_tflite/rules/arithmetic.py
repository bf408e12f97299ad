"""Operators that work element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.fusion import activation_code
from edgewright.targets._tflite.rules import Rule, Rules
from edgewright.targets._tflite.rules.broadcast import fewer_axes
from edgewright.targets._tflite.rules.typed import (
    FLOAT,
    INT,
    LONG,
    NUMBERS,
    attribute,
    cast,
    compute,
    real_attribute,
    scalar,
    step,
)

_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}


def binary(
    e: Emission,
    node: ir.Node,
    op: str,
    tensors: Sequence[int],
    kinds: Sequence[str],
    options: str = "",
    *,
    result: str = "",
    **fields: Any,
) -> None:
    """Emits a broadcasting operator of any rank."""
    fewer = fewer_axes(e, tensors)
    if fewer is None:
        compute(e, node, op, tensors, kinds, options, result=result, **fields)
        return
    operands, shape = fewer
    kind = e.tensor(operands[0]).dtype
    if e.tensor(operands[0]).quantisation is None and kind not in kinds:
        kind = INT if INT in kinds else LONG
        operands = [cast(e, tensor, kind) for tensor in operands]
    out = e.output(node)
    made = e.temp(out, shape, f"{node.name}/merged", result if result else "" if kind == e.tensor(out).dtype else kind)
    e.op(op, operands, [made], options, **fields)
    to = e.const(np.asarray(e.tensor(out).shape, np.int32), "shape")
    if e.tensor(made).dtype != e.tensor(out).dtype:
        made = cast(e, made, e.tensor(out).dtype)
    e.op("RESHAPE", [made, to], [out], "ReshapeOptions", newShape=list(e.tensor(out).shape))


def _binary(
    op: str, options: str, kinds: Sequence[str] = NUMBERS, *, activates: bool = False, result: str = ""
) -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        fields = {"fusedActivationFunction": e.activation(node)} if activates else {}
        binary(e, node, op, [e.input(node, 0), e.input(node, 1)], kinds, options, result=result, **fields)

    return rule


def _variadic(op: str, options: str, kinds: Sequence[str] = NUMBERS) -> Rule:
    """An associative operator over any number of inputs."""

    def rule(e: Emission, node: ir.Node) -> None:
        tensors = [e.input(node, index) for index in range(len(node.inputs))]
        if len(tensors) == 1:
            copy(e, node, tensors[0])
            return
        made = tensors[0]
        for following in tensors[1:-1]:
            other = following
            shape = np.broadcast_shapes(e.tensor(made).shape, e.tensor(other).shape)
            kind = e.tensor(made).dtype
            if kind not in kinds and e.tensor(made).quantisation is None:
                made, other = cast(e, made, INT), cast(e, other, INT)
            made = step(e, op, [made, other], shape, options)
        last = tensors[-1]
        if e.tensor(last).dtype != e.tensor(made).dtype:
            last = cast(e, last, e.tensor(made).dtype)
        binary(e, node, op, [made, last], kinds, options)

    return rule


def _unary(op: str, options: str = "", kinds: Sequence[str] = (FLOAT,)) -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        compute(e, node, op, [e.input(node, 0)], kinds, options)

    return rule


def copy(e: Emission, node: ir.Node, tensor: int) -> None:
    """Writes `tensor` as the node's output, in its shape."""
    shape = list(e.out_shape(node))
    to = e.const(np.asarray(shape, np.int32).reshape(-1), "shape")
    e.op("RESHAPE", [tensor, to], [e.output(node)], "ReshapeOptions", newShape=shape)


def identity(e: Emission, node: ir.Node) -> None:
    """A copy: only those of inputs, or that are outputs, are left."""
    copy(e, node, e.input(node, 0))


def clip(e: Emission, node: ir.Node) -> None:
    """One of the clipping activations, or MINIMUM and MAXIMUM with any limits."""
    code = activation_code(node)
    if code:
        e.op(_ACTIVATIONS[code], [e.input(node, 0)], [e.output(node)])
        return
    limits = [(op, e.input(node, i)) for i, op in ((1, "MAXIMUM"), (2, "MINIMUM")) if _given(node, i)]
    if not limits:
        identity(e, node)
        return
    made = e.input(node, 0)
    if len(limits) == 2:
        kind = e.tensor(made).dtype
        if kind not in NUMBERS and e.tensor(made).quantisation is None:
            made, limits = cast(e, made, INT), [(op, cast(e, limit, INT)) for op, limit in limits]
        made = step(e, limits[0][0], [made, limits[0][1]], options="MaximumMinimumOptions")
    binary(e, node, limits[-1][0], [made, limits[-1][1]], NUMBERS, "MaximumMinimumOptions")


def _given(node: ir.Node, index: int) -> bool:
    return index < len(node.inputs) and node.inputs[index] is not None


def power(e: Emission, node: ir.Node) -> None:
    """POW; a square and a square root by their own operators, which delegates know."""
    data, exponent = e.input(node, 0), e.constant(node, 1)
    said = float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None
    same = e.out_shape(node) == e.shape(node, 0) and e.tensor(data).dtype == FLOAT
    if said == 2.0 and same:
        e.op("MUL", [data, data], [e.output(node)], "MulOptions")
    elif said == 3.0 and same:
        e.op("MUL", [step(e, "MUL", [data, data], options="MulOptions"), data], [e.output(node)], "MulOptions")
    elif said == 0.5 and same:
        e.op("SQRT", [data], [e.output(node)])
    elif said == -0.5 and same:
        e.op("RSQRT", [data], [e.output(node)])
    else:
        _any_power(e, node, data, e.input(node, 1))


def _any_power(e: Emission, node: ir.Node, data: int, exponent: int) -> None:
    kinds = {e.tensor(data).dtype, e.tensor(exponent).dtype}
    kind = FLOAT if FLOAT in kinds else INT
    binary(e, node, "POW", [cast(e, data, kind), cast(e, exponent, kind)], (kind,), "PowOptions")


def remainder(e: Emission, node: ir.Node) -> None:
    """FLOOR_MOD has the sign of the divisor; with fmod, that of the dividend is put back."""
    data, divisor = e.input(node, 0), e.input(node, 1)
    if not attribute(node, "fmod", 0):
        binary(e, node, "FLOOR_MOD", [data, divisor], NUMBERS, "FloorModOptions")
        return
    kind = e.tensor(data).dtype
    kind = kind if kind == FLOAT else INT
    data, divisor = cast(e, data, kind), cast(e, divisor, kind)
    shape = e.out_shape(node)
    sizes = [step(e, "ABS", [t], options="AbsOptions") for t in (data, divisor)]
    rest = step(e, "FLOOR_MOD", sizes, shape, "FloorModOptions")
    below = step(e, "LESS", [data, scalar(e, 0, kind)], options="LessOptions", dtype="bool")
    turned = step(e, "NEG", [rest], options="NegOptions")
    _select(e, node, below, turned, rest)


def _select(e: Emission, node: ir.Node, condition: int, yes: int, no: int) -> None:
    out = e.output(node)
    kind = e.tensor(out).dtype
    e.op("SELECT_V2", [condition, cast(e, yes, kind), cast(e, no, kind)], [out], "SelectV2Options")


def where(e: Emission, node: ir.Node) -> None:
    """SELECT_V2."""
    fewer = fewer_axes(e, [e.input(node, index) for index in range(3)])
    if fewer is None:
        e.op("SELECT_V2", [e.input(node, i) for i in range(3)], [e.output(node)], "SelectV2Options")
        return
    operands, shape = fewer
    made = e.temp(operands[1], shape, f"{node.name}/merged")
    e.op("SELECT_V2", operands, [made], "SelectV2Options")
    copy(e, node, made)


def reciprocal(e: Emission, node: ir.Node) -> None:
    """1 / x."""
    data = e.input(node, 0)
    e.op("DIV", [scalar(e, 1, FLOAT), data], [e.output(node)], "DivOptions")


def leaky_relu(e: Emission, node: ir.Node) -> None:
    """LEAKY_RELU."""
    alpha = real_attribute(node, "alpha", 0.01)
    e.op("LEAKY_RELU", [e.input(node, 0)], [e.output(node)], "LeakyReluOptions", alpha=alpha)


def elu(e: Emission, node: ir.Node) -> None:
    """ELU of alpha 1; others are lowered before."""
    e.op("ELU", [e.input(node, 0)], [e.output(node)])


def prelu(e: Emission, node: ir.Node) -> None:
    """PRELU; the slope is broadcast from the right, without the batch."""
    data, slope = e.input(node, 0), e.weights(node, 1)
    e.op("PRELU", [data, slope], [e.output(node)])


def gelu(e: Emission, node: ir.Node) -> None:
    """GELU, exact or by tanh."""
    approximate = node.attributes.get_string("approximate", "none") == "tanh"
    e.op("GELU", [e.input(node, 0)], [e.output(node)], "GeluOptions", approximate=approximate)


def convert(e: Emission, node: ir.Node) -> None:
    """CAST; a number becomes true where it is not zero."""
    data, out = e.input(node, 0), e.output(node)
    if e.tensor(data).dtype == e.tensor(out).dtype:
        copy(e, node, data)
    elif e.tensor(out).dtype == "bool":
        kind = e.tensor(data).dtype
        kind = kind if kind in NUMBERS else INT
        e.op("NOT_EQUAL", [cast(e, data, kind), scalar(e, 0, kind)], [out], "NotEqualOptions")
    else:
        e.op("CAST", [data], [out], "CastOptions")


def bitwise_not(e: Emission, node: ir.Node) -> None:
    """BITWISE_XOR with ones."""
    data = e.input(node, 0)
    kind = e.tensor(data).dtype
    ones = e.const(np.invert(np.zeros((), kind)), "ones")
    e.op("BITWISE_XOR", [data, ones], [e.output(node)], "BitwiseXorOptions")


RULES: Rules = {
    ("", "Add"): _binary("ADD", "AddOptions", activates=True),
    ("", "Sub"): _binary("SUB", "SubOptions", activates=True),
    ("", "Mul"): _binary("MUL", "MulOptions", activates=True),
    ("", "Div"): _binary("DIV", "DivOptions", (FLOAT, INT), activates=True),
    ("", "Max"): _variadic("MAXIMUM", "MaximumMinimumOptions"),
    ("", "Min"): _variadic("MINIMUM", "MaximumMinimumOptions"),
    ("", "Sum"): _variadic("ADD", "AddOptions"),
    ("", "Pow"): power,
    ("", "Mod"): remainder,
    ("", "Where"): where,
    ("", "Relu"): _unary("RELU", kinds=(FLOAT,)),
    ("", "Clip"): clip,
    ("", "Sigmoid"): _unary("LOGISTIC"),
    ("", "Tanh"): _unary("TANH"),
    ("", "HardSwish"): _unary("HARD_SWISH"),
    ("", "Abs"): _unary("ABS", "AbsOptions", (FLOAT, INT)),
    ("", "Neg"): _unary("NEG", "NegOptions", NUMBERS),
    ("", "Exp"): _unary("EXP", "ExpOptions"),
    ("", "Log"): _unary("LOG"),
    ("", "Sqrt"): _unary("SQRT"),
    ("", "Sin"): _unary("SIN"),
    ("", "Cos"): _unary("COS", "CosOptions"),
    ("", "Floor"): _unary("FLOOR"),
    ("", "Ceil"): _unary("CEIL"),
    ("", "Round"): _unary("ROUND"),
    ("", "Sign"): _unary("SIGN", "SignOptions", (FLOAT, INT)),
    ("", "Reciprocal"): reciprocal,
    ("", "LeakyRelu"): leaky_relu,
    ("", "Elu"): elu,
    ("", "PRelu"): prelu,
    ("", "Gelu"): gelu,
    ("", "Cast"): convert,
    ("", "Identity"): identity,
    ("", "BitwiseNot"): bitwise_not,
    ("", "BitwiseXor"): _binary(
        "BITWISE_XOR", "BitwiseXorOptions", ("int8", "uint8", "int16", "uint16", INT, "uint32")
    ),
}
