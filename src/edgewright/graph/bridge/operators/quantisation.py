"""Quantisation. With `straight_through` quantised values stay floating, so that gradients pass the rounding.

The gradient of rounding is taken as one, of saturation as zero outside the range (Bengio et al., "Estimating or
propagating gradients through stochastic neurons", 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from edgewright.graph.bridge.elements import INTEGER_BITS, integer_range, kind_of, torch_dtype
from edgewright.graph.bridge.operators.casting import to_kind
from edgewright.graph.bridge.operators.convolution import conv
from edgewright.graph.bridge.operators.linear import matmul
from edgewright.graph.bridge.operators.values import Buffer

Kind = ir.DataType


def quantize_linear(
    x: Tensor,
    y_scale: Buffer,
    y_zero_point: Buffer | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
    kinds: Sequence[int | None],
    straight_through: bool = False,
) -> Tensor:
    kind = Kind(output_dtype or (Kind.UINT8 if y_zero_point is None else kinds[2] or kind_of(y_zero_point)))
    scale = spread(y_scale, x, axis, block_size)
    exact = torch_dtype(precision) if precision else scale.dtype
    ratio = x.to(exact) / scale.to(exact)
    point = None if y_zero_point is None else spread(y_zero_point, x, axis, block_size)
    if kind not in INTEGER_BITS:
        return to_kind(ratio if point is None else ratio + point.to(exact), kind, saturate=bool(saturate))
    wide = ratio.float() if exact.itemsize < 4 else ratio
    rounded = rounded_through(wide) if straight_through else wide.round()
    shifted = rounded if point is None else rounded + point.to(rounded.dtype)
    low, high = integer_range(kind)
    if straight_through:
        return shifted.clamp(low, high)
    return shifted.clamp(low, high).to(torch.int64).to(torch_dtype(kind))


def dequantize_linear(
    x: Tensor,
    x_scale: Buffer,
    x_zero_point: Buffer | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    scale = spread(x_scale, x, axis, block_size)
    dtype = torch_dtype(output_dtype) if output_dtype else scale.dtype
    wide = x.to(torch.promote_types(dtype, torch.float32))
    if x_zero_point is not None:
        wide = wide - spread(x_zero_point, x, axis, block_size).to(wide.dtype)
    return (wide * scale.to(wide.dtype)).to(dtype)


def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """To `uint8`, over a range that holds zero."""
    low, high = torch.clamp(x.amin(), max=0), torch.clamp(x.amax(), min=0)
    scale = (high - low) / 255
    divisor = torch.where(scale == 0, torch.ones_like(scale), scale)
    point = torch.clamp((-low / divisor).round(), 0, 255)
    return torch.clamp((x / divisor).round() + point, 0, 255).to(torch.uint8), scale, point.to(torch.uint8)


def q_linear_conv(
    x: Tensor,
    x_scale: Buffer,
    x_zero_point: Buffer,
    w: Tensor,
    w_scale: Buffer,
    w_zero_point: Buffer,
    y_scale: Buffer,
    y_zero_point: Buffer,
    b: Tensor | None = None,
    **attributes: Any,
) -> Tensor:
    """Sums are exact; one rounding at the end."""
    column = (-1, *[1] * (w.dim() - 1))
    left = x.double() - x_zero_point.double()
    right = w.double() - w_zero_point.double().reshape(column)
    sums = conv(left, right, None if b is None else b.double(), **attributes)
    return _requantised(sums, x_scale.double() * w_scale.double().reshape(column[:-1]), y_scale, y_zero_point)


def q_linear_matmul(
    a: Tensor,
    a_scale: Buffer,
    a_zero_point: Buffer,
    b: Tensor,
    b_scale: Buffer,
    b_zero_point: Buffer,
    y_scale: Buffer,
    y_zero_point: Buffer,
) -> Tensor:
    """Scales of `a` may differ by row, those of `b` by column."""
    sums = matmul(a.double() - _rows(a_zero_point), b.double() - b_zero_point.double())
    return _requantised(sums, _rows(a_scale) * b_scale.double(), y_scale, y_zero_point)


def conv_integer(
    x: Tensor, w: Tensor, x_zero_point: Buffer | None = None, w_zero_point: Buffer | None = None, **attributes: Any
) -> Tensor:
    """Exact: sums of products of 8-bit numbers are far below 2^53."""
    left = x.double() - (0 if x_zero_point is None else x_zero_point.double())
    point = 0 if w_zero_point is None else w_zero_point.double().reshape(-1, *[1] * (w.dim() - 1))
    return conv(left, w.double() - point, **attributes).to(torch.int32)


def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Buffer | None = None, b_zero_point: Buffer | None = None
) -> Tensor:
    """Exact, like `conv_integer`; the zero point of `a` may differ by row."""
    left = a.double() - (0 if a_zero_point is None else _rows(a_zero_point))
    right = b.double() - (0 if b_zero_point is None else b_zero_point.double())
    return torch.matmul(left, right).to(torch.int32)


def rounded_through(x: Tensor) -> Tensor:
    """Rounds half to even; the gradient passes as if it did not."""
    return x + (x.round() - x).detach()


def spread(parameter: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Broadcasts scales or zero points to `x`: one number, one per channel of `axis`, or one per block of it."""
    parameter = parameter.float() if parameter.dtype.itemsize == 1 and parameter.is_floating_point() else parameter
    if block_size:
        return parameter.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    if parameter.numel() == 1:
        return parameter.reshape(())
    axis = axis % x.dim()
    return parameter.reshape(-1, *[1] * (x.dim() - 1 - axis)) if parameter.dim() == 1 else parameter


def _requantised(sums: Tensor, scale: Tensor, y_scale: Tensor, y_zero_point: Tensor) -> Tensor:
    limits = torch.iinfo(y_zero_point.dtype)
    result = (sums * (scale / y_scale.double())).round() + y_zero_point.double()
    return result.clamp(limits.min, limits.max).to(y_zero_point.dtype)


def _rows(parameter: Tensor) -> Tensor:
    wide = parameter.double()
    return wide.unsqueeze(-1) if wide.dim() == 1 and wide.numel() > 1 else wide


OPERATORS: dict[str, Callable[..., Any]] = {
    "ConvInteger": conv_integer,
    "DequantizeLinear": dequantize_linear,
    "DynamicQuantizeLinear": dynamic_quantize_linear,
    "MatMulInteger": matmul_integer,
    "QLinearConv": q_linear_conv,
    "QLinearMatMul": q_linear_matmul,
    "QuantizeLinear": quantize_linear,
}
