"""Operators that work element by element."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.fusion import activation_code
from edgewright.targets._tflite.rules import Rule, Rules

_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}


def _binary(op: str, options: str, *, activates: bool = True) -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        fields = {"fusedActivationFunction": e.activation(node)} if activates else {}
        e.op(op, [e.input(node, 0), e.input(node, 1)], [e.output(node)], options, **fields)

    return rule


def _unary(op: str, options: str = "") -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        e.op(op, [e.input(node, 0)], [e.output(node)], options)

    return rule


def clip(e: Emission, node: ir.Node) -> None:
    """One of the three clipping activations."""
    e.op(_ACTIVATIONS[activation_code(node)], [e.input(node, 0)], [e.output(node)])


RULES: Rules = {
    ("", "Add"): _binary("ADD", "AddOptions"),
    ("", "Sub"): _binary("SUB", "SubOptions"),
    ("", "Mul"): _binary("MUL", "MulOptions"),
    ("", "Div"): _binary("DIV", "DivOptions"),
    ("", "Relu"): clip,
    ("", "Clip"): clip,
    ("", "Sigmoid"): _unary("LOGISTIC"),
    ("", "Tanh"): _unary("TANH"),
}
