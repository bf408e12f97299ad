"""Arithmetic, comparison, logic and bits, element by element with NumPy's broadcasting."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Number, widened


@widened
def add(a: Tensor, b: Tensor) -> Tensor:
    return a + b


@widened
def sub(a: Tensor, b: Tensor) -> Tensor:
    return a - b


@widened
def mul(a: Tensor, b: Tensor) -> Tensor:
    return a * b


@widened
def div(a: Tensor, b: Tensor) -> Tensor:
    """Integers are divided towards zero."""
    return a / b if a.is_floating_point() or a.is_complex() else torch.div(a, b, rounding_mode="trunc")


@widened
def power(a: Tensor, b: Tensor) -> Tensor:
    """The result has the type of the base."""
    if a.is_floating_point() or not b.is_floating_point():
        return torch.pow(a, b.to(a.dtype) if a.is_floating_point() or b.dtype != a.dtype else b)
    return torch.pow(a.to(torch.float64), b.to(torch.float64)).to(a.dtype)


@widened
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """The sign of the divisor, or of the dividend with `fmod`."""
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@widened
def equal(a: Tensor, b: Tensor) -> Tensor:
    return a == b


@widened
def greater(a: Tensor, b: Tensor) -> Tensor:
    return a > b


@widened
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return a >= b


@widened
def less(a: Tensor, b: Tensor) -> Tensor:
    return a < b


@widened
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    return a <= b


@widened
def maximum(*inputs: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, inputs)


@widened
def minimum(*inputs: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, inputs)


def total(*inputs: Tensor) -> Tensor:
    return functools.reduce(torch.add, inputs)


def mean(*inputs: Tensor) -> Tensor:
    return total(*inputs) / len(inputs)


def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return torch.where(condition, x, y)


@widened
def clip(x: Tensor, min: Number | None = None, max: Number | None = None) -> Tensor:
    """The upper bound wins where the bounds cross."""
    if min is None and max is None:
        return x
    if isinstance(min, float) and isinstance(max, float) and min <= max and x.is_floating_point():
        return F.hardtanh(x, min, max)
    if isinstance(min, Tensor) != isinstance(max, Tensor):
        min = _tensor(min, x)
        max = _tensor(max, x)
    return torch.clamp(x, min, max)  # type: ignore[arg-type]


def _tensor(bound: Number | None, like: Tensor) -> Tensor | None:
    return torch.as_tensor(bound, dtype=like.dtype, device=like.device) if bound is not None else None


@widened
def absolute(x: Tensor) -> Tensor:
    return torch.abs(x)


@widened
def negative(x: Tensor) -> Tensor:
    return torch.neg(x)


@widened
def sign(x: Tensor) -> Tensor:
    return torch.sign(x)


def is_nan(x: Tensor) -> Tensor:
    return torch.isnan(x if x.dtype.itemsize > 1 else x.float())


def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    x = x if x.dtype.itemsize > 1 else x.float()
    signed = (x > 0) if detect_positive and not detect_negative else (x < 0)
    found = torch.isinf(x)
    if detect_negative and detect_positive:
        return found
    return found & signed if detect_negative or detect_positive else torch.zeros_like(found)


@widened
def bitwise_and(a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_and(a, b)


@widened
def bitwise_or(a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_or(a, b)


@widened
def bitwise_xor(a: Tensor, b: Tensor) -> Tensor:
    return torch.bitwise_xor(a, b)


@widened
def bitwise_not(a: Tensor) -> Tensor:
    return torch.bitwise_not(a)


@widened
def bit_shift(a: Tensor, b: Tensor, *, direction: str) -> Tensor:
    return torch.bitwise_left_shift(a, b) if direction == "LEFT" else torch.bitwise_right_shift(a, b)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Abs": absolute,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": add,
    "And": torch.logical_and,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitShift": bit_shift,
    "BitwiseAnd": bitwise_and,
    "BitwiseNot": bitwise_not,
    "BitwiseOr": bitwise_or,
    "BitwiseXor": bitwise_xor,
    "Ceil": torch.ceil,
    "Clip": clip,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Div": div,
    "Equal": equal,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Greater": greater,
    "GreaterOrEqual": greater_or_equal,
    "IsInf": is_inf,
    "IsNaN": is_nan,
    "Less": less,
    "LessOrEqual": less_or_equal,
    "Log": torch.log,
    "Max": maximum,
    "Mean": mean,
    "Min": minimum,
    "Mod": mod,
    "Mul": mul,
    "Neg": negative,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": power,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sign": sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Sub": sub,
    "Sum": total,
    "Tan": torch.tan,
    "Where": where,
    "Xor": torch.logical_xor,
}
