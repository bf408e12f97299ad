"""Pooling over the spatial axes, [batch, channels, spatial...]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, ints
from edgewright.graph.bridge.operators.windows import Window, lowest, outer_end, pad_spatial, unfold, window

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """The second output holds positions in the flattened input, of the whole batch."""
    shape = window(
        x, kernel_shape, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad, ceil_mode=ceil_mode
    )
    if not x.dtype.is_floating_point:
        return max_pool_integer(x, shape)
    narrow = all(2 * p <= k for p, k in zip(shape.begin, shape.kernel, strict=True))
    if outputs == 1 and shape.symmetric and narrow and len(shape.kernel) in _MAX:
        found: Tensor = _MAX[len(shape.kernel)](x, shape.kernel, shape.strides, shape.begin, shape.dilations)
        return found
    windows = unfold(pad_spatial(x, shape.begin, outer_end(shape), lowest(x.dtype)), shape)
    best, where = windows.flatten(-len(shape.kernel)).max(-1)
    return best if outputs == 1 else (best, _positions(x, shape, where, storage_order))


def max_pool_integer(x: Tensor, shape: Window) -> Tensor:
    windows = unfold(pad_spatial(x, shape.begin, outer_end(shape), lowest(x.dtype)), shape)
    return windows.flatten(-len(shape.kernel)).amax(-1)


def _positions(x: Tensor, shape: Window, where: Tensor, storage_order: int) -> Tensor:
    sizes, rank = x.shape[2:], len(shape.kernel)
    flat = torch.zeros_like(where)
    step = 1
    inside = where
    coordinates = []
    for axis in reversed(range(rank)):
        inside, offset = inside // shape.kernel[axis], inside % shape.kernel[axis]
        start = torch.arange(where.shape[axis + 2], device=x.device) * shape.strides[axis] - shape.begin[axis]
        start = start.reshape(-1, *[1] * (rank - 1 - axis))
        coordinates.append((axis, start + offset * shape.dilations[axis]))
    for axis, coordinate in coordinates if not storage_order else reversed(coordinates):
        flat = flat + coordinate * step
        step *= sizes[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2], *[1] * rank)
    return flat + planes * math.prod(sizes)


def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: Ints | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    rank = len(kernel_shape)
    strides, pads = strides or (1,) * rank, pads or (0,) * (2 * rank)
    sizes = [(x.shape[i + 2] - 1) * strides[i] + kernel_shape[i] - pads[i] - pads[i + rank] for i in range(rank)]
    inner = (*x.shape[:2], *sizes)
    shape = inner if output_shape is None else tuple(ints(output_shape))
    if math.prod(shape) != math.prod(inner):
        places = torch.unravel_index(indices.flatten(), inner)
        return x.new_zeros(shape).index_put(tuple(places), x.flatten())
    return x.new_zeros(math.prod(shape)).scatter(0, indices.flatten(), x.flatten()).reshape(shape)


def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    shape = window(
        x, kernel_shape, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad, ceil_mode=ceil_mode
    )
    means = _means(pad_spatial(x, shape.begin, outer_end(shape)), shape)
    padded = any(shape.begin) or any(shape.end)
    if not any(shape.extra) and (count_include_pad or not padded):
        return means
    counted = x.new_ones(1, 1, *x.shape[2:])
    counted = pad_spatial(counted, shape.begin, shape.end, 1.0 if count_include_pad else 0.0)
    return means / _means(pad_spatial(counted, [0] * len(shape.extra), shape.extra), shape)


def _means(padded: Tensor, shape: Window) -> Tensor:
    if set(shape.dilations) == {1} and len(shape.kernel) in _MEAN:
        found: Tensor = _MEAN[len(shape.kernel)](padded, shape.kernel, shape.strides)
        return found
    return unfold(padded, shape).flatten(-len(shape.kernel)).mean(-1)


def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    shape = window(
        x, kernel_shape, strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad, ceil_mode=ceil_mode
    )
    windows = unfold(pad_spatial(x, shape.begin, outer_end(shape)), shape)
    norm: Tensor = torch.linalg.vector_norm(windows.flatten(-len(shape.kernel)), ord=p, dim=-1)
    return norm


def global_average_pool(x: Tensor) -> Tensor:
    return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


def global_max_pool(x: Tensor) -> Tensor:
    return x.amax(dim=tuple(range(2, x.dim())), keepdim=True)


def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, ord=p, dim=tuple(range(2, x.dim())), keepdim=True)
    return norm


OPERATORS: dict[str, Callable[..., Any]] = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
    "MaxUnpool": max_unpool,
}
