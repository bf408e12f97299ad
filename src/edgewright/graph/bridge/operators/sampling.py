"""Sampling images at given places, cutting and putting together patches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, axes_of, ints
from edgewright.graph.bridge.operators.windows import pad_spatial

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    return F.grid_sample(x, grid.to(x.dtype), _MODES.get(mode, mode), padding_mode, align_corners=bool(align_corners))


def affine_grid(theta: Tensor, size: Ints, *, align_corners: int = 0) -> Tensor:
    return F.affine_grid(theta, ints(size), align_corners=bool(align_corners))


def center_crop_pad(x: Tensor, shape: Ints, *, axes: Sequence[int] | None = None) -> Tensor:
    """An odd element more is cropped, or padded, at the end."""
    begin, end = [0] * x.dim(), [0] * x.dim()
    dims = axes_of(None if axes is None else list(axes), x.dim())
    for axis, wanted in zip(dims, ints(shape), strict=True):
        missing = wanted - x.shape[axis]
        begin[axis] = missing // 2 if missing > 0 else -(-missing // 2)
        end[axis] = missing - begin[axis]
    return pad_spatial(x, begin, end)


def col2im(
    x: Tensor,
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Adds up columns of [batch, channels * block, blocks] where blocks overlap."""
    sizes, block = ints(image_shape), ints(block_shape)
    rank = len(sizes)
    steps, gaps, borders = strides or [1] * rank, dilations or [1] * rank, pads or [0] * (2 * rank)
    padded = [size + borders[i] + borders[i + rank] for i, size in enumerate(sizes)]
    place = torch.zeros((1, 1), dtype=torch.int64, device=x.device)
    for axis, size in enumerate(padded):
        count = (size - gaps[axis] * (block[axis] - 1) - 1) // steps[axis] + 1
        inside = torch.arange(block[axis], device=x.device).reshape(1, -1, 1, 1) * gaps[axis]
        starts = torch.arange(count, device=x.device).reshape(1, 1, 1, -1) * steps[axis]
        place = (place[:, None, :, None] * size + inside + starts).flatten(2).flatten(0, 1)
    columns = x.reshape(x.shape[0], -1, place.numel())
    image = x.new_zeros(*columns.shape[:2], math.prod(padded))
    image = image.scatter_add(2, place.flatten().expand(columns.shape), columns)
    return pad_spatial(
        image.reshape(*columns.shape[:2], *padded), [-p for p in borders[:rank]], [-p for p in borders[rank:]]
    )


OPERATORS: dict[str, Callable[..., Any]] = {
    "AffineGrid": affine_grid,
    "CenterCropPad": center_crop_pad,
    "Col2Im": col2im,
    "GridSample": grid_sample,
}
