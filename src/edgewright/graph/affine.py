"""Affine quantisation arithmetic: real = scale x (integer - zero point).

Rounding and saturation follow ONNX QuantizeLinear: divide in float32, round half to even, add the zero point, saturate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCALE = 1e-12
"""Scale of a tensor that is zero throughout; any positive number would do."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The integers a tensor may take.

    Attributes:
        dtype: NumPy's name of the type that stores them.
        low: Smallest.
        high: Largest.
    """

    dtype: str
    low: int
    high: int


def activation_grid(dtype: str, symmetric: bool) -> Grid:
    """Returns the whole range of `dtype`; symmetric leaves out the lowest value so that both sides are equal.

    Raises:
        ValueError: `dtype` is not an integer type.
    """
    info = np.iinfo(dtype)
    return Grid(dtype, int(info.min) + (1 if symmetric else 0), int(info.max))


def weight_grid(dtype: str, bits: int, symmetric: bool = True) -> Grid:
    """Returns the range of weights: `bits` of 8, or 7 where sums of 8-bit products would saturate.

    Symmetric grids leave out the lowest value, so int8 at 8 bits is -127..127.

    Raises:
        ValueError: `dtype` is not an integer type, or `bits` is not within 2..8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"weights of {bits} bits, expected 2 to 8")
    half = 1 << (bits - 1)
    if np.iinfo(dtype).min < 0:
        return Grid(dtype, -half + (1 if symmetric else 0), half - 1)
    return Grid(dtype, 1 if symmetric else 0, 2 * half - 1)


def parameters(low: NDArray[Any], high: NDArray[Any], grid: Grid, symmetric: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns scales (float32) and zero points (int64) that cover [`low`, `high`] and represent zero exactly.

    Args:
        low: Smallest real values, one per channel or a scalar.
        high: Largest real values, of the same shape.
        grid: Integers to use.
        symmetric: Fix the zero point at the middle of the grid.
    """
    low = np.minimum(np.asarray(low, np.float64), 0.0)
    high = np.maximum(np.asarray(high, np.float64), 0.0)
    if symmetric:
        middle = (grid.low + grid.high) // 2
        scale = _scale(np.maximum(-low, high) / (grid.high - middle))
        return scale, np.full(scale.shape, middle, np.int64)
    scale = _scale((high - low) / (grid.high - grid.low))
    zero = np.clip(np.rint(grid.low - low / scale.astype(np.float64)), grid.low, grid.high)
    return scale, zero.astype(np.int64)


def quantise(values: NDArray[Any], scale: Any, zero_point: Any, grid: Grid, axis: int | None = None) -> NDArray[Any]:
    """Returns integers, as ONNX Runtime's QuantizeLinear gives them: infinities saturate, NaN is the lowest integer.

    Args:
        values: Real values, float32.
        scale: One scale, or one per index of `axis`.
        zero_point: As many as scales.
        grid: Integers to saturate to.
        axis: Channel axis; None for per-tensor.
    """
    with np.errstate(over="ignore"):  # beyond float32 is beyond the grid
        ratio = np.asarray(values, np.float32) / _broadcast(np.asarray(scale, np.float32), values.ndim, axis)
    ratio = np.where(np.isnan(ratio), np.float32(-np.inf), ratio)
    integers = np.rint(ratio).astype(np.float64) + _broadcast(np.asarray(zero_point, np.float64), values.ndim, axis)
    return np.asarray(np.clip(integers, grid.low, grid.high).astype(grid.dtype))


def dequantise(integers: NDArray[Any], scale: Any, zero_point: Any, axis: int | None = None) -> NDArray[Any]:
    """Returns real values (float32), as ONNX DequantizeLinear gives them."""
    zero = _broadcast(np.asarray(zero_point, np.int64), integers.ndim, axis)
    shifted = (integers.astype(np.int64) - zero).astype(np.float32)
    product = shifted * _broadcast(np.asarray(scale, np.float32), integers.ndim, axis)
    return np.asarray(product, np.float32)


def channel_range(values: NDArray[Any], axis: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the smallest and the largest value of the tensor or of each channel."""
    others = tuple(i for i in range(values.ndim) if axis is None or i != axis % values.ndim)
    return values.min(axis=others), values.max(axis=others)


def _scale(scale: Any) -> NDArray[Any]:
    return np.asarray(np.maximum(scale, SMALLEST_SCALE), np.float32)


def _broadcast(values: NDArray[Any], ndim: int, axis: int | None) -> NDArray[Any]:
    if axis is None or values.ndim == 0:
        return values.reshape(()) if values.size == 1 else values
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)
