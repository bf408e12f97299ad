"""Element types: conversion between them, with ONNX's rules for the narrow ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from edgewright.graph.bridge.elements import FLOAT8, HELD_IN, INTEGER_BITS, kind_of, torch_dtype

Kind = ir.DataType

_NARROW = (Kind.INT2, Kind.INT4, Kind.UINT2, Kind.UINT4)
_FLOAT4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:
    return to_kind(x, Kind(to), saturate=bool(saturate), round_mode=round_mode)


def cast_like(
    x: Tensor, target: Tensor, *, saturate: int = 1, round_mode: str = "up", kinds: Sequence[int | None]
) -> Tensor:
    kind = Kind(kinds[1]) if kinds[1] else kind_of(target)
    return to_kind(x, kind, saturate=bool(saturate), round_mode=round_mode)


def to_kind(x: Tensor, kind: Kind, *, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """Converts elements to an ONNX type, held as `elements` says.

    Args:
        x: Any shape.
        kind: The type wanted.
        saturate: 8-bit floats take their largest value instead of infinity or NaN.
        round_mode: `up`, `down` or `nearest`, for powers of two (float8e8m0) only.
    """
    dtype = torch_dtype(kind)
    x = x.float() if x.dtype in FLOAT8 else x
    if kind in _NARROW:
        return _wrapped(x, kind)
    if kind == Kind.FLOAT4E2M1:
        return _float4(x)
    if kind == Kind.FLOAT8E8M0:
        return _power_of_two(x.float(), saturate=saturate, round_mode=round_mode)
    if dtype in FLOAT8:
        return _float8(x.float(), dtype, saturate=saturate)
    return x.to(dtype)


def bit_cast(x: Tensor, *, to: int) -> Tensor:
    return x.view(torch_dtype(to))


def _wrapped(x: Tensor, kind: Kind) -> Tensor:
    """Keeps the lowest bits, in two's complement."""
    signed, bits = INTEGER_BITS[kind]
    low = x.to(torch.int64) & ((1 << bits) - 1)
    low = torch.where(low >= 1 << (bits - 1), low - (1 << bits), low) if signed else low
    return low.to(HELD_IN[kind])


def _float4(x: Tensor) -> Tensor:
    """Nearest of the fifteen values, ties to the even mantissa; there is no NaN, it becomes negative zero."""
    grid = torch.tensor(_FLOAT4, device=x.device)
    middles = (grid[1:] + grid[:-1]) / 2
    size = x.float().abs().nan_to_num(nan=0.0)
    lower, upper = torch.bucketize(size, middles, right=False), torch.bucketize(size, middles, right=True)
    index = torch.where(lower % 2 == 0, lower, upper)
    return torch.where(x.isnan(), -0.0, torch.copysign(grid[index], x.float()))


def _float8(x: Tensor, dtype: torch.dtype, *, saturate: bool) -> Tensor:
    largest = torch.finfo(dtype).max
    if saturate:
        return x.clamp(-largest, largest).to(dtype)
    if dtype == torch.float8_e4m3fn:
        # Half of the next step above 448 still rounds to it, and PyTorch saturates.
        x = torch.where(x.abs() > 464, torch.nan, x)
    return x.to(dtype)


def _power_of_two(x: Tensor, *, saturate: bool, round_mode: str) -> Tensor:
    mantissa, exponent = torch.frexp(x)
    up = {"up": mantissa > 0.5, "down": torch.zeros_like(x, dtype=torch.bool), "nearest": mantissa >= 0.75}[round_mode]
    code = exponent.int() - 1 + up.int() + 127
    lost = torch.isnan(x)
    code = torch.where(torch.isinf(x), 255, torch.where(x == 0, -1, code))
    if not saturate:
        lost = lost | (code > 254) | (code < 0)
    return torch.where(lost, 255, code.clamp(0, 254)).to(torch.uint8).view(torch.float8_e8m0fnu)


OPERATORS: dict[str, Callable[..., Any]] = {
    "BitCast": bit_cast,
    "Cast": cast,
    "CastLike": cast_like,
}
