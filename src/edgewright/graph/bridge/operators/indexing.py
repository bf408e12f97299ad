"""Picking and placing elements by index; negative indices count from the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, Place, ints


def gather(data: Tensor, indices: Place, *, axis: int = 0) -> Tensor:
    axis = axis % data.dim()
    if not isinstance(indices, Tensor):
        return data.select(axis, indices)
    places = _from_front(indices, data.shape[axis])
    if data.dim() == 2 and axis == 0 and data.is_floating_point():
        return F.embedding(places, data)
    picked = data.index_select(axis, places.reshape(-1))
    return picked.reshape(data.shape[:axis] + indices.shape + data.shape[axis + 1 :])


def gather_elements(data: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    return data.gather(axis, _from_front(indices, data.shape[axis]))


def gather_nd(data: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    count = math.prod(data.shape[:batch_dims])
    flat, places = data.reshape(-1, *data.shape[batch_dims:]), indices.reshape(count, -1, indices.shape[-1])
    row = torch.arange(count, device=data.device).reshape(-1, 1).expand(places.shape[:2])
    index = (row, *places.long().unbind(-1))
    picked = flat[index]
    return picked.reshape(indices.shape[:-1] + data.shape[batch_dims + indices.shape[-1] :])


def scatter_elements(
    data: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    places = _from_front(indices, data.shape[axis])
    if reduction == "none":
        return data.scatter(axis, places, updates)
    return data.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    depth = indices.shape[-1]
    places = [_from_front(i, size) for i, size in zip(indices.long().unbind(-1), data.shape[:depth], strict=False)]
    if reduction in ("none", "add"):
        return data.index_put(tuple(places), updates, accumulate=reduction == "add")
    sizes = data.shape[:depth]
    row = torch.zeros_like(places[0])
    for place, size in zip(places, sizes, strict=True):
        row = row * size + place
    flat = data.reshape(math.prod(sizes), -1)
    index = row.reshape(-1, 1).expand(-1, flat.shape[1])
    values = updates.reshape(index.shape)
    return flat.scatter_reduce(0, index, values, _REDUCTIONS[reduction]).reshape(data.shape)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def arg_max(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The first of equals, or the last."""
    return _arg(torch.argmax, data, axis, keepdims, select_last_index)


def arg_min(data: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    return _arg(torch.argmin, data, axis, keepdims, select_last_index)


def _arg(function: Callable[..., Tensor], data: Tensor, axis: int, keepdims: int, last: int) -> Tensor:
    if not last:
        return function(data, axis, keepdim=bool(keepdims))
    return data.shape[axis] - 1 - function(data.flip(axis), axis, keepdim=bool(keepdims))


def top_k(x: Tensor, k: Ints, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """Of equal elements the one with the smaller index comes first."""
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, ints(k)[0]), indices.narrow(axis, 0, ints(k)[0])


def _from_front(indices: Tensor, size: int) -> Tensor:
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


OPERATORS: dict[str, Callable[..., Any]] = {
    "ArgMax": arg_max,
    "ArgMin": arg_min,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "TopK": top_k,
}
