"""How far two decisions about the same input are apart: one number, 0 for equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision, Detections, Segmentation, Tensors

TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 3e-2}
"""Largest difference expected between processors, by main precision: rounding differs with the order of sums."""

INTEGER_TOLERANCE = 5e-2
"""For integer models: one step of the output's scale, and kernels round and saturate differently."""

NO_CLASS = -1
"""Index of "none": the best score was under a threshold."""

Box = Sequence[float]


def tolerance_for(precision: str) -> float:
    """Returns the largest difference to expect of the same artifact on another processor."""
    return TOLERANCES.get(precision, INTEGER_TOLERANCE)


def difference(expected: Decision, found: Decision) -> float:
    """Returns how far `found` is from `expected`.

    - Classification: largest difference of a class's score, relative to the largest score when that exceeds 1; the
      best class counts with its whole score when the other side does not list it.
    - Detections: largest of the score differences and the location errors (score x (1 - IoU)) of matched objects;
      an object that only one side has counts with its whole score.
    - Segmentation: share of pixels with another class.
    - Tensors: largest absolute difference relative to the tensor's largest magnitude.

    Decisions of different kinds or shapes are infinitely far apart.
    """
    if isinstance(expected, Classification) and isinstance(found, Classification):
        return _classification(expected, found)
    if isinstance(expected, Detections) and isinstance(found, Detections):
        return _detections(expected, found)
    if isinstance(expected, Segmentation) and isinstance(found, Segmentation):
        same_shape = expected.mask.shape == found.mask.shape
        return float(np.mean(expected.mask != found.mask)) if same_shape else float("inf")
    if isinstance(expected, Tensors) and isinstance(found, Tensors):
        return _tensors(expected, found)
    return float("inf")


def _classification(expected: Classification, found: Classification) -> float:
    left = dict(zip(expected.indices, expected.scores, strict=True))
    right = dict(zip(found.indices, found.scores, strict=True))
    if not left or not right:
        return 0.0 if left == right else float("inf")
    worst = max(_unlike(left, right), _unlike(right, left))
    return worst / max(1.0, *map(abs, left.values()))


def _unlike(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """Returns the largest difference over our classes; one they do not list has at most their smallest score."""
    floor = min(theirs.values())
    undecided = NO_CLASS in ours or NO_CLASS in theirs
    best = max(ours, key=lambda index: ours[index])

    def gap(index: int, score: float) -> float:
        if index in theirs:
            return abs(score - theirs[index])
        return abs(score) if index == best and not undecided else max(0.0, score - floor)

    return max(gap(index, score) for index, score in ours.items())


def _detections(expected: Detections, found: Detections) -> float:
    left = list(range(len(found.boxes)))
    worst = 0.0
    for box, score, label in zip(expected.boxes, expected.scores, expected.classes, strict=True):
        same = [i for i in left if found.classes[i] == label]
        best = max(same, key=lambda i: intersection_over_union(box, found.boxes[i]), default=None)
        overlap = 0.0 if best is None else intersection_over_union(box, found.boxes[best])
        if best is None or overlap < 0.5:
            worst = max(worst, score)
            continue
        left.remove(best)
        worst = max(worst, abs(score - found.scores[best]), score * (1 - overlap))
    return max([worst, *(found.scores[i] for i in left)])


def _tensors(expected: Tensors, found: Tensors) -> float:
    if set(expected.values) != set(found.values):
        return float("inf")
    return max((_array(one, found.values[name]) for name, one in expected.values.items()), default=0.0)


def _array(expected: NDArray[Any], found: NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return float("inf")
    a, b = np.asarray(expected, np.float64), np.asarray(found, np.float64)
    unlike = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not unlike.any():
        return 0.0
    if not (np.isfinite(a[unlike]).all() and np.isfinite(b[unlike]).all()):
        return float("inf")
    scale = float(np.abs(a[np.isfinite(a)]).max())
    return float(np.abs(a[unlike] - b[unlike]).max()) / max(scale, 1e-12)


def intersection_over_union(a: Box, b: Box) -> float:
    """Returns the IoU of two boxes (x1, y1, x2, y2), 0 for empty ones."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)
