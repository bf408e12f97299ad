"""Mathematical functions that take several operators, written out when emitted: fusion wants to see them whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.typed import FLOAT, scalar, step

# Numerator and denominator of erf(x) / x in x^2 on [-4, 4], highest power first; Eigen's generic_fast_erf_float.
_ERF_UPPER = (
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
_ERF_LOWER = (
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)


def erf(e: Emission, node: ir.Node) -> None:
    """A quotient of polynomials, within 3e-7 of erf."""
    x = step(e, "MAXIMUM", [e.input(node, 0), scalar(e, -4, FLOAT)], options="MaximumMinimumOptions")
    x = step(e, "MINIMUM", [x, scalar(e, 4, FLOAT)], options="MaximumMinimumOptions")
    square = step(e, "MUL", [x, x], options="MulOptions")
    upper = step(e, "MUL", [x, _polynomial(e, square, _ERF_UPPER)], options="MulOptions")
    e.op("DIV", [upper, _polynomial(e, square, _ERF_LOWER)], [e.output(node)], "DivOptions")


def _polynomial(e: Emission, x: int, factors: Sequence[float]) -> int:
    """Horner's rule, highest power first."""
    made = scalar(e, factors[0], FLOAT)
    for index, factor in enumerate(factors[1:]):
        tensors = [x, made] if index == 0 else [made, x]
        made = step(
            e,
            "ADD",
            [step(e, "MUL", tensors, e.tensor(x).shape, "MulOptions"), scalar(e, factor, FLOAT)],
            options="AddOptions",
        )
    return made


def arcsine(e: Emission, node: ir.Node) -> None:
    """ATAN2(x, sqrt(1 - x^2))."""
    x = e.input(node, 0)
    e.op("ATAN2", [x, _leg(e, x)], [e.output(node)], "ATan2Options")


def arccosine(e: Emission, node: ir.Node) -> None:
    """ATAN2(sqrt(1 - x^2), x)."""
    x = e.input(node, 0)
    e.op("ATAN2", [_leg(e, x), x], [e.output(node)], "ATan2Options")


def arctangent(e: Emission, node: ir.Node) -> None:
    """ATAN2(x, 1)."""
    x = e.input(node, 0)
    ones = e.const(np.ones(e.tensor(x).shape, np.float32), "ones")
    e.op("ATAN2", [x, ones], [e.output(node)], "ATan2Options")


def _leg(e: Emission, x: int) -> int:
    one = scalar(e, 1, FLOAT)
    less = step(e, "SUB", [one, x], e.tensor(x).shape, "SubOptions")
    more = step(e, "ADD", [x, one], options="AddOptions")
    return step(e, "SQRT", [step(e, "MUL", [less, more], options="MulOptions")])


RULES: Rules = {
    ("", "Erf"): erf,
    ("", "Asin"): arcsine,
    ("", "Acos"): arccosine,
    ("", "Atan"): arctangent,
}
