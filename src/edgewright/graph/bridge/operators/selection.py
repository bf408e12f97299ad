"""Choosing elements by their values, running sums, and caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgewright.graph.bridge.elements import to_array
from edgewright.graph.bridge.operators.values import Ints, Number, ints


def non_zero(x: Tensor) -> Tensor:
    return torch.nonzero(x).mT


def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The condition may be shorter than the axis; the rest is left out."""
    x = x.flatten() if axis is None else x
    return x.index_select(axis or 0, torch.nonzero(condition).flatten())


def cum_sum(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(torch.cumsum, 0, x, ints(axis)[0], exclusive, reverse)


def cum_prod(x: Tensor, axis: Ints, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    return _running(torch.cumprod, 1, x, ints(axis)[0], exclusive, reverse)


def _running(
    function: Callable[..., Tensor], neutral: int, x: Tensor, axis: int, exclusive: int, reverse: int
) -> Tensor:
    x = x.flip(axis) if reverse else x
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), neutral)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    result = function(x, axis, dtype=x.dtype)
    return result.flip(axis) if reverse else result


def reverse_sequence(x: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(moved.shape[1], device=x.device)
    lengths = sequence_lens.reshape(-1, 1)
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    rows = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    return moved[rows, source].movedim((0, 1), (batch_axis, time_axis))


def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1) -> tuple[Tensor, ...]:
    """Values, first positions, positions in the values, counts; in order of appearance unless `sorted`."""
    array = to_array(x.float() if x.dtype == torch.bfloat16 else x)
    values, first, inverse, counts = (
        torch.from_numpy(np.ascontiguousarray(a)) for a in np.unique(array, True, True, True, axis=axis)
    )
    inverse = inverse.flatten()
    if not sorted:
        order = torch.argsort(first)
        values, first, counts = values.index_select(axis or 0, order), first[order], counts[order]
        inverse = torch.argsort(order)[inverse]
    return (values.to(x), first, inverse, counts)[:outputs]


def tensor_scatter(
    past_cache: Tensor, update: Tensor, write_indices: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """Writes `update` at a place of its own for each element of the batch, around the end if `circular`."""
    axis = axis % past_cache.dim()
    starts = past_cache.new_zeros(past_cache.shape[0], dtype=torch.int64) if write_indices is None else write_indices
    places = starts.unsqueeze(1) + torch.arange(update.shape[axis], device=update.device)
    places = places % past_cache.shape[axis] if mode == "circular" else places
    shape = [1] * update.dim()
    shape[0], shape[axis] = places.shape
    return past_cache.scatter(axis, places.reshape(shape).expand(update.shape), update)


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: Number | None = None,
    iou_threshold: Number | None = None,
    score_threshold: Number | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Rows of batch, class and box, best scores of a class first."""
    limit = 0 if max_output_boxes_per_class is None else int(_scalar(max_output_boxes_per_class))
    overlap = 0.0 if iou_threshold is None else _scalar(iou_threshold)
    corners = _corners(boxes, center_point_box)
    rows = []
    for batch in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            values = scores[batch, label]
            order = torch.argsort(values, descending=True, stable=True)
            if score_threshold is not None:
                order = order[values[order] > _scalar(score_threshold)]
            rows += [(batch, label, box) for box in _kept(corners[batch], order.tolist(), overlap, limit)]
    return torch.tensor(rows, dtype=torch.int64, device=scores.device).reshape(-1, 3)


def _kept(corners: Tensor, order: list[int], overlap: float, limit: int) -> list[int]:
    kept: list[int] = []
    for box in order:
        if len(kept) >= limit:
            break
        if not kept or bool((_iou(corners[box], corners[kept]) <= overlap).all()):
            kept.append(box)
    return kept


def _corners(boxes: Tensor, center: int) -> Tensor:
    first, second = boxes[..., :2], boxes[..., 2:]
    if center:
        return torch.cat([first - second / 2, first + second / 2], -1)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _iou(one: Tensor, many: Tensor) -> Tensor:
    sides = (torch.minimum(one[2:], many[:, 2:]) - torch.maximum(one[:2], many[:, :2])).clamp(min=0)
    shared = sides.prod(-1)
    areas = (many[:, 2:] - many[:, :2]).prod(-1) + (one[2:] - one[:2]).prod()
    return shared / (areas - shared)


def _scalar(value: Any) -> float:
    value = value.flatten().tolist() if isinstance(value, Tensor) else value
    return float(value[0] if isinstance(value, list) else value)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Compress": compress,
    "CumProd": cum_prod,
    "CumSum": cum_sum,
    "NonMaxSuppression": non_max_suppression,
    "NonZero": non_zero,
    "ReverseSequence": reverse_sequence,
    "TensorScatter": tensor_scatter,
    "Unique": unique,
}
