"""Operators of the bridge in the form of PyTorch that XNNPACK knows, where there is one that says the same.

A function here takes what the bridge's takes and falls back on it for everything that has no such form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators import OPERATORS
from edgewright.graph.bridge.operators.windows import window

_PLANE = 2


def clip(x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Two fixed bounds are a hard tanh, which convolutions take in."""
    low, high = _number(min), _number(max)
    if low is not None and high is not None and math.isfinite(low) and math.isfinite(high) and low <= high:
        return F.hardtanh(x, low, high)
    if low == 0 and max is None:
        return torch.relu(x)
    found: Tensor = OPERATORS["Clip"](x, min, max)
    return found


def _number(bound: Any) -> float | None:
    if isinstance(bound, (int, float)):
        return float(bound)
    if isinstance(bound, list) and len(bound) == 1:
        return float(bound[0])
    return None


def average_pool(x: Tensor, **attributes: Any) -> Tensor:
    """Padding that is not counted is said to the pool."""
    said: dict[str, Any] = {name: attributes.get(name) for name in ("strides", "dilations", "pads")}
    shape = window(x, attributes["kernel_shape"], auto_pad=attributes.get("auto_pad", "NOTSET"), **said)
    plain = shape.symmetric and set(shape.dilations) == {1} and len(shape.kernel) == _PLANE
    if plain and not attributes.get("ceil_mode") and any(shape.begin) and not attributes.get("count_include_pad"):
        return F.avg_pool2d(x, shape.kernel, shape.strides, shape.begin, count_include_pad=False)
    found: Tensor = OPERATORS["AveragePool"](x, **attributes)
    return found


def conv_transpose(
    x: Tensor, w: Tensor, b: Tensor | None = None, *, group: int = 1, auto_pad: str = "NOTSET", **attributes: Any
) -> Tensor:
    """Padding that is the same on both sides is said to the convolution."""
    rank = x.dim() - 2
    pads = list(attributes.get("pads") or (0,) * (2 * rank))
    if auto_pad == "NOTSET" and not attributes.get("output_shape") and pads[:rank] == pads[rank:] and rank <= _PLANE:
        function: Any = F.conv_transpose2d if rank == _PLANE else F.conv_transpose1d
        ones = (1,) * rank
        strides, dilations = _sizes(attributes, "strides", ones), _sizes(attributes, "dilations", ones)
        extra = _sizes(attributes, "output_padding", (0,) * rank)
        result: Tensor = function(x, w, b, strides, pads[:rank], extra, group, dilations)
        return result
    found: Tensor = OPERATORS["ConvTranspose"](x, w, b, group=group, auto_pad=auto_pad, **attributes)
    return found


def _sizes(attributes: dict[str, Any], name: str, default: tuple[int, ...]) -> Sequence[int]:
    return tuple(attributes.get(name) or default)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """One slope, or one per channel."""
    if x.dim() > 1 and slope.numel() in (1, x.shape[1]) and (slope.dim() < x.dim() or slope.shape[0] == 1):
        wide = slope.numel() == 1 or (slope.dim() == x.dim() - 1 and slope.shape[0] == x.shape[1])
        if wide or (slope.dim() == x.dim() and slope.shape[1] == x.shape[1]):
            return F.prelu(x, slope.reshape(-1))
    found: Tensor = OPERATORS["PRelu"](x, slope)
    return found


def layer_normalization(x: Tensor, scale: Tensor, b: Tensor | None = None, **attributes: Any) -> Any:
    """ExecuTorch has a kernel for the whole of it."""
    sizes = x.shape[attributes.get("axis", -1) % x.dim() :]
    plain = scale.shape == sizes and (b is None or b.shape == sizes) and x.dtype == torch.float32
    if plain and attributes.get("outputs", 1) == 1:
        return F.layer_norm(x, sizes, scale, b, attributes.get("epsilon", 1e-5))
    return OPERATORS["LayerNormalization"](x, scale, b, **attributes)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Stacks of the same size need not be widened to each other."""
    if a.dim() == b.dim() > _PLANE and a.shape[:-2] == b.shape[:-2]:
        return torch.bmm(a.flatten(0, -3), b.flatten(0, -3)).reshape(*a.shape[:-1], b.shape[-1])
    found: Tensor = OPERATORS["MatMul"](a, b)
    return found


def reduce_mean(data: Tensor, axes: Any = None, **attributes: Any) -> Tensor:
    """Over both axes of images: with them kept, as a pool, and reshaped then."""
    image = isinstance(axes, (list, tuple)) and data.dim() == _PLANE + 2
    if image and not attributes.get("keepdims", 1) and {int(a) % data.dim() for a in axes} == {2, 3}:
        return data.mean((2, 3), keepdim=True).flatten(1)
    found: Tensor = OPERATORS["ReduceMean"](data, axes, **attributes)
    return found


FORMS: dict[Callable[..., Any], Callable[..., Any]] = {
    OPERATORS["AveragePool"]: average_pool,
    OPERATORS["Clip"]: clip,
    OPERATORS["ConvTranspose"]: conv_transpose,
    OPERATORS["LayerNormalization"]: layer_normalization,
    OPERATORS["MatMul"]: matmul,
    OPERATORS["PRelu"]: prelu,
    OPERATORS["ReduceMean"]: reduce_mean,
}
"""The bridge's function -> ours."""
