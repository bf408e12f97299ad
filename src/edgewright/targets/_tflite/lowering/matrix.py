"""Matrix products in terms of MatMul and Gemm with plain attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.arithmetic import Made, Maths, number
from edgewright.targets._tflite.stored import real


def _gemm(lowering: Lowering, node: ir.Node) -> Made:
    """A Gemm with a constant matrix and a bias per column stays; all else becomes MatMul, Mul and Add."""
    alpha, beta = (node.attributes.get_float(name, 1.0) or 0.0 for name in ("alpha", "beta"))
    turned = bool(node.attributes.get_int("transA", 0))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    matrix = real(node.inputs[1]) if node.inputs[1] is not None else None
    plain = alpha == 1.0 and not turned and matrix is not None
    if plain and (bias is None or (beta == 1.0 and _is_row(lowering, node, bias))):
        return None
    m = Maths(lowering)
    a, b = node.inputs[0], node.inputs[1]
    assert a is not None
    assert b is not None
    a = m("Transpose", a, perm=[1, 0]) if turned else a
    if node.attributes.get_int("transB", 0):
        b = m("Transpose", b, perm=[1, 0]) if matrix is None else lowering.constant(np.ascontiguousarray(matrix.T))
    made = m("MatMul", a, b)
    made = made if alpha == 1.0 else m("Mul", made, number(alpha))
    if bias is None or beta == 0.0:
        return [made]
    return [m("Add", made, bias if beta == 1.0 else m("Mul", bias, number(beta)))]


def _is_row(lowering: Lowering, node: ir.Node, bias: ir.Value) -> bool:
    shape, out = static_shape(bias), static_shape(node.outputs[0])
    return real(bias) is not None and out is not None and shape == out[-1:]


def _einsum(lowering: Lowering, node: ir.Node) -> Made:
    """Sums over axes of single operands first, then products pair by pair as batched MatMul."""
    equation = (node.attributes.get_string("equation") or "").replace(" ", "")
    operands = [value for value in node.inputs if value is not None]
    shapes = [static_shape(value) for value in operands]
    if any(shape is None for shape in shapes):
        return None
    known = [shape for shape in shapes if shape is not None]
    terms, wanted = _terms(equation, known)
    if any(len(set(term)) != len(term) for term in terms):
        raise StepFailed(
            f"LiteRT: Einsum of node {node.name}: {equation} takes a diagonal", hint="write it as Gather and Mul"
        )
    return [_Sums(lowering, terms, known).solve(operands, wanted)]


def _terms(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    spare = [letter for letter in "ZYXWVUTSRQPONM" if letter not in equation]
    most = max((len(s) - len(t) + 3 for t, s in zip(terms, shapes, strict=True) if "..." in t), default=0)
    dots = "".join(spare[:most])
    filled = [
        t.replace("...", dots[most - (len(s) - len(t) + 3) :] if "..." in t else "")
        for t, s in zip(terms, shapes, strict=True)
    ]
    if not arrow:
        letters = "".join(terms).replace(".", "")
        right = ("..." if dots else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return filled, right.replace("...", dots)


class _Sums:
    """Contracts operands; `sizes` has the size of every index."""

    def __init__(self, lowering: Lowering, terms: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
        self.lowering, self.m = lowering, Maths(lowering)
        self.terms = list(terms)
        self.sizes: dict[str, int] = {}
        for term, shape in zip(terms, shapes, strict=True):
            for letter, size in zip(term, shape, strict=True):
                self.sizes[letter] = max(size, self.sizes.get(letter, 1))

    def solve(self, operands: Sequence[ir.Value], wanted: str) -> ir.Value:
        made, term = operands[0], self.terms[0]
        for index, other in enumerate(operands[1:], start=1):
            later = wanted + "".join(self.terms[index + 1 :])
            made, term = self._pair(made, term, other, self.terms[index], later)
        made, term = self._without(made, term, wanted)
        return self._turned(made, term, wanted)

    def _pair(self, a: ir.Value, at: str, b: ir.Value, bt: str, later: str) -> tuple[ir.Value, str]:
        a, at = self._without(a, at, bt + later)
        b, bt = self._without(b, bt, at + later)
        both = [c for c in at if c in bt]
        batch = "".join(c for c in both if c in later)
        summed = "".join(c for c in both if c not in later)
        rows, columns = ("".join(c for c in t if c not in both) for t in (at, bt))
        left = self._shaped(self._turned(a, at, batch + rows + summed), [*batch], rows, summed)
        right = self._shaped(self._turned(b, bt, batch + summed + columns), [*batch], summed, columns)
        made = self.m("MatMul", left, right)
        out = batch + rows + columns
        return self.m("Reshape", made, np.asarray([self.sizes[c] for c in out], np.int64)), out

    def _shaped(self, value: ir.Value, batch: Sequence[str], rows: str, columns: str) -> ir.Value:
        sizes = [self.sizes[c] for c in batch] + [int(np.prod([self.sizes[c] for c in g])) for g in (rows, columns)]
        return self.m("Reshape", value, np.asarray(sizes, np.int64))

    def _without(self, value: ir.Value, term: str, kept: str) -> tuple[ir.Value, str]:
        gone = [axis for axis, letter in enumerate(term) if letter not in kept]
        if not gone:
            return value, term
        from edgewright.targets._tflite.lowering.reduce import reduced

        made = reduced(self.lowering, "ReduceSum", value, gone, keep=False)
        return made, "".join(c for c in term if c in kept)

    def _turned(self, value: ir.Value, term: str, wanted: str) -> ir.Value:
        return value if term == wanted else self.m("Transpose", value, perm=[term.index(c) for c in wanted])


def _matmul_integer(lowering: Lowering, node: ir.Node) -> Made:
    """Differences to the zero points multiplied as floats: exact while the sums stay below 2^24."""
    m = Maths(lowering)
    sides = [_centred(m, node, index) for index in (0, 1)]
    made = m("MatMul", *sides)
    return [m("Cast", made, to=int(ir.DataType.INT32))]


def _centred(m: Maths, node: ir.Node, index: int) -> ir.Value:
    value, zero = node.inputs[index], node.inputs[index + 2] if len(node.inputs) > index + 2 else None
    assert value is not None
    made = m("Cast", value, to=int(ir.DataType.FLOAT))
    if zero is None:
        return made
    shift = m("Cast", zero, to=int(ir.DataType.FLOAT))
    shape = static_shape(zero)
    if index == 0 and shape and len(shape) == 1 and shape[0] > 1:
        shift = m("Reshape", shift, np.asarray([-1, 1], np.int64))
    return m("Sub", made, shift)


def _quantised_matmul(lowering: Lowering, node: ir.Node) -> Made:
    """QLinearMatMul as a product between quantisers."""
    a, b = (lowering.add("DequantizeLinear", list(node.inputs[i : i + 3])) for i in (0, 3))
    made = lowering.add("MatMul", [a, b])
    return [lowering.add("QuantizeLinear", [made, node.inputs[6], node.inputs[7]])]


def _quantised_conv(lowering: Lowering, node: ir.Node) -> Made:
    """QLinearConv as a convolution between quantisers; its bias has the scale of the products."""
    data = lowering.add("DequantizeLinear", list(node.inputs[:3]))
    weights = lowering.add("DequantizeLinear", list(node.inputs[3:6]), axis=0)
    inputs: list[ir.Value | NDArray[Any] | None] = [data, weights]
    bias, scales = lowering.number(8), (lowering.number(1), lowering.number(4))
    if bias is not None and scales[0] is not None and scales[1] is not None:
        inputs.append((bias * (scales[0] * scales[1])).astype(np.float32).reshape(-1))
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    made = lowering.add("Conv", inputs, **attributes)
    return [lowering.add("QuantizeLinear", [made, node.inputs[6], node.inputs[7]])]


RULES: Mapping[str, Rule] = {
    "Gemm": _gemm,
    "Einsum": _einsum,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _quantised_matmul,
    "QLinearConv": _quantised_conv,
}
