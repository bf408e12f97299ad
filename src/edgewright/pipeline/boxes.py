"""Boxes: overlap, non-maximum suppression, and the way back to the original image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def overlap(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Returns intersection over union of one box [4] with `others` [n, 4], all (x1, y1, x2, y2)."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + area - shared
    ratio: NDArray[Any] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def suppress(
    boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], iou: float, limit: int
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression within each class.

    Takes boxes in descending order of score and drops every later box of the same class whose intersection over
    union with a box taken is above `iou`.

    Args:
        boxes: [n, 4] as (x1, y1, x2, y2).
        scores: [n].
        classes: [n].
        iou: Overlap above which two boxes are one object.
        limit: Most boxes kept.

    Returns:
        Indices of the boxes kept, in descending order of score; ties go to the lower index.
    """
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while left.size and len(kept) < limit:
        best, left = left[0], left[1:]
        kept.append(int(best))
        double = (classes[left] == classes[best]) & (overlap(boxes[best], boxes[left]) > iou)
        left = left[~double]
    return np.asarray(kept, np.int64)


def to_original(boxes: NDArray[Any], geometry: Mapping[str, Any]) -> NDArray[Any]:
    """Returns boxes [n, 4] in pixels of the original image, cut at its border.

    Args:
        boxes: (x1, y1, x2, y2) in pixels of the model's input.
        geometry: See `Item.geometry`; empty leaves the boxes as they are.
    """
    if not geometry:
        return boxes
    (scale_y, scale_x), (pad_y, pad_x) = geometry["scale"], geometry["pad"]
    height, width = geometry["size"]
    moved = (boxes - np.asarray([pad_x, pad_y, pad_x, pad_y])) / np.asarray([scale_x, scale_y, scale_x, scale_y])
    inside: NDArray[Any] = np.clip(moved, 0.0, np.asarray([width, height, width, height], float))
    return inside
