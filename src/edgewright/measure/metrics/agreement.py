"""How far a candidate decides as the original model does: the quality where there are no labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision, Detections, Segmentation, Tensors
from edgewright.errors import DataError
from edgewright.measure.metrics._resampling import Floats, mean_where, once, ratio_or
from edgewright.measure.metrics.detection import overlaps
from edgewright.measure.metrics.regression import cosine, flattened

DISPLAY_SCORE = 0.3
"""Detections below this score are not shown to a user and do not count as decisions."""
SAME_OBJECT_IOU = 0.5
CHANGED_PIXELS = 0.01
"""A mask has changed when more than this share of its pixels has."""
CHANGED_NORM = 0.1
"""Tensors have changed when they moved by more than this share of their length (20 dB)."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement with the original model.

    Classification: same best class. Detections: F1 of boxes of the same class matched at IoU 0.5, above the display
    score, pooled over images. Segmentation: share of equal pixels. Tensors: cosine.
    Contribution: [numerator, denominator] of the pooled share. The "label" is the original's decision.
    """

    name: str = "agreement"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> list[float]:
        return _agreement(decision, label)

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        table = np.asarray(contributions, dtype=np.float64).reshape(-1, 2)
        # Nothing found by either model is full agreement.
        return ratio_or(weights @ table[:, 0], weights @ table[:, 1], 1.0)

    def hits(self, contributions: Sequence[Any]) -> NDArray[np.bool_] | None:
        table = np.asarray(contributions, dtype=np.float64).reshape(-1, 2)
        binary = np.isin(table[:, 0], (0.0, 1.0)).all() and (table[:, 1] == 1.0).all()
        return table[:, 0] == 1.0 if binary else None

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        """Agreement on the samples that the original puts into each class; empty for other kinds of decision."""
        if not all(isinstance(label, Classification) and label.indices for label in labels):
            return {}
        best = np.array([label.indices[0] for label in labels])
        table = np.asarray(contributions, dtype=np.float64).reshape(-1, 2)
        return {int(c): float(mean_where(table[:, 0], best == c)) for c in np.unique(best)}


def changed(decision: Decision, reference: Decision) -> bool:
    """Says whether a user would see another decision than the original's.

    Classification: another best class. Detections: some object above the display score has no counterpart of its
    class. Segmentation: more than 1% of the pixels. Tensors: moved by more than 10% of their length.

    Raises:
        DataError: The two are decisions of different kinds.
    """
    if isinstance(decision, Segmentation) and isinstance(reference, Segmentation):
        return 1.0 - _agreement(decision, reference)[0] > CHANGED_PIXELS
    if isinstance(decision, Tensors) and isinstance(reference, Tensors):
        found, wanted = flattened(decision.values), flattened(reference.values)
        return bool(np.linalg.norm(found - wanted) > CHANGED_NORM * np.linalg.norm(wanted))
    shared, total = _agreement(decision, reference)
    return shared != total


def _agreement(decision: Decision, reference: Decision) -> list[float]:
    if isinstance(decision, Classification) and isinstance(reference, Classification):
        return [float(decision.indices[:1] == reference.indices[:1]), 1.0]
    if isinstance(decision, Detections) and isinstance(reference, Detections):
        return _matched(decision, reference)
    if isinstance(decision, Segmentation) and isinstance(reference, Segmentation):
        return [float((decision.mask == reference.mask).mean()), 1.0]
    if isinstance(decision, Tensors) and isinstance(reference, Tensors):
        return [cosine(flattened(decision.values), flattened(reference.values)), 1.0]
    raise DataError(
        f"the original decided {getattr(reference, 'kind', type(reference).__name__)}, the candidate {decision.kind}",
        hint="evaluate both with the same [[postprocess]]",
    )


def _matched(decision: Detections, reference: Detections) -> list[float]:
    (boxes, classes), (others, other_classes) = _shown(decision), _shown(reference)
    iou = overlaps(boxes, others, np.zeros(len(others), dtype=bool))
    iou[classes[:, None] != other_classes[None]] = 0.0
    matched = 0
    for row in range(len(boxes)):
        column = int(iou[row].argmax()) if len(others) else -1
        if column >= 0 and iou[row, column] >= SAME_OBJECT_IOU:
            matched += 1
            iou[:, column] = 0.0
    return [2.0 * matched, float(len(boxes) + len(others))]


def _shown(found: Detections) -> tuple[Floats, NDArray[np.int64]]:
    shown = np.asarray(found.scores, dtype=np.float64) >= DISPLAY_SCORE
    boxes = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4)
    return boxes[shown], np.asarray(found.classes, dtype=np.int64)[shown]
