"""Quantisation tables of tensors, checked: real value = scale x (integer - zero point).

Source: the 8-bit quantisation specification, https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgewright.errors import Corrupt
from edgewright.formats.tflite.flat import Table

SCALED = ("int8", "uint8", "int16", "int4")
"""Types whose scaled integers stand for real values."""
_ACCUMULATORS = ("int32", "int64")
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "int4": (-8, 7)}


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the integers of one tensor are read.

    Attributes:
        scale: Empty for a tensor that is not scaled.
        zero_point: As many as scales.
        axis: The quantised axis; 0 for one scale.
        details: Number of another method in the schema (1 custom, 2 blockwise), 0 for scales and zero points.
    """

    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0
    details: int = 0


def read_parameters(table: Table | None, name: str, dtype: str, shape: tuple[int, ...]) -> Parameters:
    """Reads the quantisation table of one tensor.

    Float tensors may carry the range they were trained with; that is left out.

    Args:
        table: As stored; None where the tensor has none.
        name: Of the tensor, for errors.
        dtype: Of the tensor.
        shape: Of the tensor.

    Raises:
        Corrupt: Scales or zero points that no tensor can have: their number, sign, size or axis.
    """
    if table is None or dtype not in (*SCALED, *_ACCUMULATORS):
        return Parameters()
    found, zeros = table.array(2, "f4"), table.array(3, "i8")
    scale = () if found is None else tuple(float(s) for s in found)
    zero = () if zeros is None else tuple(int(z) for z in zeros)
    axis, details = int(table.scalar(6, "i")), int(table.scalar(4, "B"))
    if details:
        return Parameters(details=details)
    if not scale:
        return Parameters()
    _check_scales(scale, name, accumulator=dtype in _ACCUMULATORS)
    _check_zeros(zero, len(scale), name, dtype)
    if len(scale) > 1:
        axis = _check_axis(axis, len(scale), name, shape)
    return Parameters(scale, zero if len(zero) == len(scale) else (zero or (0,)) * len(scale), axis)


def _check_scales(scale: tuple[float, ...], name: str, *, accumulator: bool) -> None:
    """Kernels compute the scale of an accumulator from its operands, so that one may be stored as 0."""
    for index, value in enumerate(scale):
        if not math.isfinite(value) or value < 0 or (value == 0 and not accumulator):
            raise _wrong(name, f"scale {index} is {value:g}, a positive number is expected")


def _check_zeros(zero: tuple[int, ...], count: int, name: str, dtype: str) -> None:
    if len(zero) not in (0, 1, count):
        raise _wrong(name, f"{count} scales but {len(zero)} zero points")
    low, high = _LIMITS.get(dtype, (0, 0))
    outside = next((z for z in zero if not low <= z <= high), None)
    if outside is not None:
        raise _wrong(name, f"zero point {outside} lies outside {low} to {high} of {dtype}")


def _check_axis(axis: int, count: int, name: str, shape: tuple[int, ...]) -> int:
    if not -len(shape) <= axis < len(shape):
        raise _wrong(name, f"{count} scales along axis {axis} of {len(shape)} axes")
    axis %= len(shape)
    if shape[axis] != count:
        raise _wrong(name, f"{count} scales along axis {axis}, which has size {shape[axis]}")
    return axis


def _wrong(name: str, what: str) -> Corrupt:
    return Corrupt(
        f'quantisation of tensor "{name}": {what}',
        hint="the file is damaged or its converter is at fault; download it again or quantise the float model anew",
    )
