"""Mathematical functions in terms of those that TensorFlow Lite computes.

Every formula keeps the precision of float32: differences of nearly equal numbers are avoided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.targets._tflite.kernels import constant_data
from edgewright.targets._tflite.lowering.apply import Lowering, Rule

Made = Sequence[ir.Value] | None
Operand = ir.Value | NDArray[Any]


def number(value: float) -> NDArray[Any]:
    """Returns a float32 scalar."""
    return np.asarray(value, np.float32)


def like(value: float, source: ir.Value | None) -> NDArray[Any]:
    """Returns a scalar of the type of `source`."""
    kind = source.dtype if source is not None and source.dtype is not None else ir.DataType.FLOAT
    return np.asarray(value, kind.numpy())


class Maths:
    """Writes formulas as nodes."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering = lowering

    def __call__(self, op: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        return self.lowering.add(op, list(inputs), **attributes)

    def log1p(self, x: Operand) -> ir.Value:
        """log(1 + x): kernels of log are absolutely, not relatively, exact near 1, so small x go by a series."""
        small = self("Less", self("Abs", x), number(0.5))
        near = self("Where", small, x, number(0))
        return self("Where", small, self.series(near), self("Log", self("Add", x, number(1))))

    def series(self, x: Operand) -> ir.Value:
        """log(1 + x) = 2 artanh(x / (2 + x)), to 2e-8 of itself for x in [-0.5, 1]."""
        s = self("Div", x, self("Add", x, number(2)))
        square = self("Mul", s, s)
        made: Operand = number(2 / 15)
        for power in (13, 11, 9, 7, 5, 3, 1):
            made = self("Add", self("Mul", square, made), number(2 / power))
        return self("Mul", s, made)

    def softplus(self, x: Operand) -> ir.Value:
        """log(1 + exp(x)) without overflow."""
        small = self("Exp", self("Neg", self("Abs", x)))
        return self("Add", self("Max", x, number(0)), self.series(small))


def formula(write: Callable[[Maths, ir.Value, ir.Node], ir.Value]) -> Rule:
    """Returns the rule of an operator of one input and one output."""

    def rule(lowering: Lowering, node: ir.Node) -> Made:
        data = node.inputs[0]
        assert data is not None
        return [write(Maths(lowering), data, node)]

    return rule


def attribute(node: ir.Node, name: str, default: float) -> NDArray[Any]:
    """Returns a float attribute as a scalar."""
    found = node.attributes.get_float(name, default)
    return number(default if found is None else found)


def _sinh(m: Maths, x: ir.Value, _: ir.Node) -> ir.Value:
    return m("Mul", m("Tanh", x), _cosh(m, x, _))


def _cosh(m: Maths, x: ir.Value, _: ir.Node) -> ir.Value:
    half = m("Exp", m("Sub", m("Abs", x), number(np.log(2))))
    return m("Add", half, m("Div", number(0.25), half))


def _asinh(m: Maths, x: ir.Value, _: ir.Node) -> ir.Value:
    size = m("Abs", x)
    square = m("Mul", size, size)
    root = m("Sqrt", m("Add", square, number(1)))
    return m("Mul", m("Sign", x), m.log1p(m("Add", size, m("Div", square, m("Add", root, number(1))))))


def _acosh(m: Maths, x: ir.Value, _: ir.Node) -> ir.Value:
    over = m("Sub", x, number(1))
    return m.log1p(m("Add", over, m("Sqrt", m("Mul", over, m("Add", x, number(1))))))


def _atanh(m: Maths, x: ir.Value, _: ir.Node) -> ir.Value:
    quotient = m("Div", m("Mul", x, number(2)), m("Sub", number(1), x))
    return m("Mul", m.log1p(quotient), number(0.5))


def _selu(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = attribute(node, "alpha", 1.67326319217681884765625)
    gamma = attribute(node, "gamma", 1.05070102214813232421875)
    return m("Add", m("Mul", m("Max", x, number(0)), gamma), m("Mul", _negative(m, x), number(float(alpha * gamma))))


def _negative(m: Maths, x: ir.Value) -> ir.Value:
    """exp(x) - 1 below zero."""
    return m("Elu", m("Min", x, number(0)))


def _elu(lowering: Lowering, node: ir.Node) -> Made:
    alpha = float(attribute(node, "alpha", 1.0))
    x = node.inputs[0]
    if alpha == 1.0 or x is None:
        return None
    m = Maths(lowering)
    return [m("Add", m("Max", x, number(0)), m("Mul", _negative(m, x), number(alpha)))]


def _celu(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = attribute(node, "alpha", 1.0)
    return m("Mul", m("Elu", m("Div", x, alpha)), alpha)


def _hard_sigmoid(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    scaled = m("Mul", x, attribute(node, "alpha", 0.2))
    return m("Clip", m("Add", scaled, attribute(node, "beta", 0.5)), number(0), number(1))


def _thresholded(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    return m("Where", m("Greater", x, attribute(node, "alpha", 1.0)), x, number(0))


def _shrink(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    lambd, bias = (float(attribute(node, name, value)) for name, value in (("lambd", 0.5), ("bias", 0.0)))
    above = m("Where", m("Greater", x, like(lambd, x)), m("Sub", x, like(bias, x)), like(0, x))
    return m("Where", m("Less", x, like(-lambd, x)), m("Add", x, like(bias, x)), above)


def _swish(m: Maths, x: ir.Value, node: ir.Node) -> ir.Value:
    alpha = float(attribute(node, "alpha", 1.0))
    return m("Mul", x, m("Sigmoid", x if alpha == 1.0 else m("Mul", x, number(alpha))))


def _mean(lowering: Lowering, node: ir.Node) -> Made:
    m = Maths(lowering)
    inputs = [value for value in node.inputs if value is not None]
    total = inputs[0] if len(inputs) == 1 else m("Sum", *inputs)
    return [m("Mul", total, number(1 / len(inputs)))]


def _identity(lowering: Lowering, node: ir.Node) -> Made:
    value = node.inputs[0]
    if value is None or node.outputs[0].is_graph_output():
        return None
    return [value]


def _dropout(lowering: Lowering, node: ir.Node) -> Made:
    training = lowering.number(2)
    if training is not None and bool(training.reshape(-1)[0]):
        return None
    ratio = lowering.shape(0)
    made = [lowering.add("Identity", [node.inputs[0]])]
    if len(node.outputs) > 1:
        made.append(lowering.add("Identity", [np.ones(ratio or (), bool)]))
    return made


def _cast_like(lowering: Lowering, node: ir.Node) -> Made:
    like_value = node.inputs[1]
    if like_value is None or like_value.dtype is None:
        return None
    return [lowering.add("Cast", [node.inputs[0]], to=int(like_value.dtype))]


def _prelu(lowering: Lowering, node: ir.Node) -> Made:
    """PRELU broadcasts the slope over the batch; other slopes by maxima."""
    data, slope = lowering.shape(0), lowering.shape(1)
    x, a = node.inputs[0], node.inputs[1]
    if data is None or slope is None or x is None or a is None:
        return None
    m = Maths(lowering)
    if x.dtype != ir.DataType.FLOAT:
        return [m("Where", m("Less", x, like(0, x)), m("Mul", x, a), x)]
    if constant_data(a) and len(slope) in (0, 1, len(data) - 1):
        return None
    return [m("Add", m("Max", x, number(0)), m("Mul", m("Min", x, number(0)), a))]


def _relu(lowering: Lowering, node: ir.Node) -> Made:
    x = node.inputs[0]
    if x is None or x.dtype in (None, ir.DataType.FLOAT):
        return None
    return [Maths(lowering)("Max", x, like(0, x))]


RULES: Mapping[str, Rule] = {
    "Tan": formula(lambda m, x, _: m("Div", m("Sin", x), m("Cos", x))),
    "Sinh": formula(_sinh),
    "Cosh": formula(_cosh),
    "Asinh": formula(_asinh),
    "Acosh": formula(_acosh),
    "Atanh": formula(_atanh),
    "Softplus": formula(lambda m, x, _: m.softplus(x)),
    "Softsign": formula(lambda m, x, _: m("Div", x, m("Add", m("Abs", x), number(1)))),
    "Mish": formula(lambda m, x, _: m("Mul", x, m("Tanh", m.softplus(x)))),
    "Selu": formula(_selu),
    "Elu": _elu,
    "Celu": formula(_celu),
    "HardSigmoid": formula(_hard_sigmoid),
    "ThresholdedRelu": formula(_thresholded),
    "Shrink": formula(_shrink),
    "Swish": formula(_swish),
    "Mean": _mean,
    "Identity": _identity,
    "Dropout": _dropout,
    "CastLike": _cast_like,
    "PRelu": _prelu,
    "Relu": _relu,
}
