"""Comparisons and logic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rule, Rules
from edgewright.targets._tflite.rules.arithmetic import binary
from edgewright.targets._tflite.rules.typed import FLOAT, NUMBERS, attribute, scalar, step


def _comparison(op: str, options: str, *, logical: bool = False) -> Rule:
    kinds = ("bool", *NUMBERS) if logical else NUMBERS

    def rule(e: Emission, node: ir.Node) -> None:
        binary(e, node, op, [e.input(node, 0), e.input(node, 1)], kinds, options, result="bool")

    return rule


def is_nan(e: Emission, node: ir.Node) -> None:
    """What differs from itself."""
    data = e.input(node, 0)
    e.op("NOT_EQUAL", [data, data], [e.output(node)], "NotEqualOptions")


def is_infinite(e: Emission, node: ir.Node) -> None:
    """Equality with the infinities asked for."""
    data = e.input(node, 0)
    above, below = attribute(node, "detect_positive", 1), attribute(node, "detect_negative", 1)
    if above and below:
        data = step(e, "ABS", [data], options="AbsOptions")
    elif not above and not below:
        e.op("NOT_EQUAL", [data, data], [e.output(node)], "NotEqualOptions")
        return
    infinity = scalar(e, np.inf if above else -np.inf, FLOAT)
    e.op("EQUAL", [data, infinity], [e.output(node)], "EqualOptions")


def negation(e: Emission, node: ir.Node) -> None:
    """LOGICAL_NOT."""
    e.op("LOGICAL_NOT", [e.input(node, 0)], [e.output(node)], "LogicalNotOptions")


def _logic(op: str, options: str) -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        binary(e, node, op, [e.input(node, 0), e.input(node, 1)], ("bool",), options)

    return rule


RULES: Rules = {
    ("", "Equal"): _comparison("EQUAL", "EqualOptions", logical=True),
    ("", "Less"): _comparison("LESS", "LessOptions"),
    ("", "LessOrEqual"): _comparison("LESS_EQUAL", "LessEqualOptions"),
    ("", "Greater"): _comparison("GREATER", "GreaterOptions"),
    ("", "GreaterOrEqual"): _comparison("GREATER_EQUAL", "GreaterEqualOptions"),
    ("", "And"): _logic("LOGICAL_AND", "LogicalAndOptions"),
    ("", "Or"): _logic("LOGICAL_OR", "LogicalOrOptions"),
    ("", "Xor"): _logic("NOT_EQUAL", "NotEqualOptions"),
    ("", "Not"): negation,
    ("", "IsNaN"): is_nan,
    ("", "IsInf"): is_infinite,
}
