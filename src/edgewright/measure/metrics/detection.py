"""Mean average precision by the rules of COCO (Lin et al. 2014; the reference code is pycocotools).

Per image and class the 100 best detections are matched greedily to the labelled boxes, at each IoU threshold on
its own; a detection on a crowd region is ignored. Precision is read at 101 recalls and averaged over classes that
have labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Decision, Detections
from edgewright.errors import DataError
from edgewright.measure.metrics._average_precision import average_precision
from edgewright.measure.metrics._labels import wrong_kind
from edgewright.measure.metrics._resampling import Floats, mean_where, once

MOST_DETECTIONS = 100
COCO_THRESHOLDS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))


@dataclass(frozen=True, slots=True)
class MeanAveragePrecision:
    """Mean average precision at `thresholds` of intersection over union.

    Contribution: per class [class, labelled boxes, scores, hits, ignored]; bit t of `hits` says that the detection
    matched at threshold t, bit t of `ignored` that it lies on a crowd region.
    """

    name: str
    thresholds: tuple[float, ...]
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> list[list[Any]]:
        if not isinstance(decision, Detections):
            raise wrong_kind(decision, self.name, "detections", '{ op = "yolo" }')
        boxes, classes, crowd = _truth(label, self.name)
        found = np.asarray(decision.classes, dtype=np.int64)
        return [
            self._of_class(int(c), decision, found == c, boxes[classes == c], crowd[classes == c])
            for c in np.union1d(found, classes)
        ]

    def _of_class(
        self, index: int, found: Detections, chosen: NDArray[np.bool_], truth: Floats, crowd: NDArray[np.bool_]
    ) -> list[Any]:
        scores = np.asarray(found.scores, dtype=np.float64)[chosen]
        order = np.argsort(-scores, kind="stable")[:MOST_DETECTIONS]
        boxes = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4)[chosen][order]
        hits, ignored = match(overlaps(boxes, truth, crowd), crowd, self.thresholds)
        return [index, int((~crowd).sum()), scores[order].tolist(), hits, ignored]

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        areas = np.stack([ap.mean(axis=1) for _, ap in self._by_class(contributions, weights)], axis=1)
        return mean_where(areas, ~np.isnan(areas))

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        found = self._by_class(contributions, np.ones((1, len(contributions))))
        return {c: float(ap[0].mean()) for c, ap in found}

    def _by_class(self, contributions: Sequence[Any], weights: Floats) -> list[tuple[int, Floats]]:
        """Returns (class, [resamples, thresholds]) for every class that has a labelled box."""
        grouped: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for image, classes in enumerate(contributions):
            for entry in classes:
                grouped[entry[0]].append((image, entry))
        labelled = {c: rows for c, rows in sorted(grouped.items()) if any(entry[1] for _, entry in rows)}
        if not labelled:
            raise DataError(
                f"{self.name}: no sample has a labelled box", hint="check the labels, or use the agreement metric"
            )
        return [(c, average_precision(rows, len(self.thresholds), weights)) for c, rows in labelled.items()]


def map50() -> MeanAveragePrecision:
    """Returns mAP at IoU 0.5."""
    return MeanAveragePrecision("map50", (0.5,))


def map50_95() -> MeanAveragePrecision:
    """Returns mAP averaged over IoU 0.50, 0.55, ... 0.95."""
    return MeanAveragePrecision("map50-95", COCO_THRESHOLDS)


def _truth(label: Any, metric: str) -> tuple[Floats, NDArray[np.int64], NDArray[np.bool_]]:
    if not isinstance(label, Mapping) or not {"boxes", "classes"} <= set(label):
        raise DataError(
            f'{metric} expects labels {{"boxes", "classes", "crowd"}}, got {type(label).__name__}',
            hint="give boxes as [x1, y1, x2, y2] in pixels of the original image, one class index each",
        )
    boxes = np.asarray(label["boxes"], dtype=np.float64).reshape(-1, 4)
    classes = np.asarray(label["classes"], dtype=np.int64).reshape(-1)
    crowd = np.asarray(label.get("crowd") or np.zeros(len(classes)), dtype=bool).reshape(-1)
    if not len(boxes) == len(classes) == len(crowd):
        raise DataError(
            f"{metric}: a label has {len(boxes)} boxes, {len(classes)} classes and {len(crowd)} crowd flags",
            hint="give one class and one crowd flag per box",
        )
    return boxes, classes, crowd


def overlaps(boxes: Floats, truth: Floats, crowd: NDArray[np.bool_]) -> Floats:
    """Returns intersection over union [boxes, truth]; over the box's own area where the truth is a crowd."""
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[:, None]
    union = np.where(crowd[None], area, area + (truth[:, 2:] - truth[:, :2]).prod(axis=1)[None] - shared)
    return np.where(shared > 0, shared / np.where(union > 0, union, 1.0), 0.0)


def match(iou: Floats, crowd: NDArray[np.bool_], thresholds: Sequence[float]) -> tuple[list[int], list[int]]:
    """Matches detections, best first, to labelled boxes at each threshold.

    Returns:
        (hits, ignored): one bit mask over thresholds per detection.
    """
    hits, ignored = [0] * len(iou), [0] * len(iou)
    best = iou.max(axis=1) if iou.size else np.zeros(len(iou))
    for bit, threshold in enumerate(thresholds):
        free = ~crowd
        for d in np.flatnonzero(best >= threshold):
            wanted = _best(iou[d], free, threshold)
            if wanted >= 0:
                free[wanted] = False
                hits[d] |= 1 << bit
            elif _best(iou[d], crowd, threshold) >= 0:
                ignored[d] |= 1 << bit
    return hits, ignored


def _best(row: Floats, allowed: NDArray[np.bool_], threshold: float) -> int:
    """Returns the allowed column with the largest overlap, the last one among equals as COCO does; -1 for none."""
    values = np.where(allowed, row, -1.0)[::-1]
    at = int(values.argmax())
    return len(row) - 1 - at if values[at] >= threshold else -1
