"""Tensors made from sizes and numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgewright.graph.bridge.elements import torch_dtype
from edgewright.graph.bridge.operators.values import Ints, ints

Filling = tuple[Sequence[float], int]


def constant_of_shape(shape: Ints, *, value: Filling = ([0.0], 1)) -> Tensor:
    (number,), kind = value
    device = shape.device if isinstance(shape, Tensor) else None
    return torch.full(ints(shape), number, dtype=torch_dtype(kind), device=device)


def range_(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """Elements `start + i * delta`, floating ones computed in the type `stash_type` where that is wider."""
    wide = start.to(torch.promote_types(start.dtype, torch_dtype(stash_type))) if start.is_floating_point() else start
    count = torch.ceil((limit.double() - start.double()) / delta.double()).clamp(min=0)
    steps = torch.arange(int(count), device=start.device)
    return (wide + steps.to(wide.dtype) * delta.to(wide.dtype)).to(start.dtype)


def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    held = x.dtype if dtype is None else torch_dtype(dtype)
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return (torch.arange(x.shape[1], device=x.device) - rows == k).to(held)


def trilu(x: Tensor, k: Ints | None = None, *, upper: int = 1) -> Tensor:
    diagonal = 0 if k is None else ints(k)[0]
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)


def one_hot(indices: Tensor, depth: Ints, values: Tensor, *, axis: int = -1) -> Tensor:
    """Indices outside [-depth, depth) give no hot element."""
    count = ints(depth)[0]
    places = indices.long()
    places = torch.where(places < 0, places + count, places).unsqueeze(axis)
    shape = [1] * places.dim()
    shape[axis] = count
    hot = places == torch.arange(count, device=indices.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


OPERATORS: dict[str, Callable[..., Any]] = {
    "ConstantOfShape": constant_of_shape,
    "EyeLike": eye_like,
    "OneHot": one_hot,
    "Range": range_,
    "Trilu": trilu,
}
