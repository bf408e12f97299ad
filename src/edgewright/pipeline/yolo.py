"""Decoding of YOLO-style detectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Detections
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline.boxes import suppress, to_original
from edgewright.pipeline.postitem import Outcome, chosen


@dataclass(frozen=True, slots=True)
class Yolo:
    """Decides for the objects in an image.

    Styles (sigmoid already applied to scores, as their ONNX exports have it):

    - `yolox`: [anchors, 5 + classes]; centre = (xy + grid) x stride, size = exp(wh) x stride,
      score = objectness x class. Ge et al., "YOLOX: Exceeding YOLO Series in 2021".
    - `yolov5`: [anchors, 5 + classes]; centre and size in pixels, score = objectness x class.
    - `yolov8`: [4 + classes, anchors]; centre and size in pixels, score = class.

    Attributes:
        style: One of the above.
        size: Height and width of the model's input in pixels; needed by `yolox` when the image operations do not
            say it.
        strides: Pixels per grid cell of each level, for `yolox`.
        score: Boxes below are dropped.
        iou: Overlap above which two boxes of one class are one object.
        max_detections: Most boxes kept.
        multi_label: Let a box count for every class above `score`, not only for its best one.
        classes: Class indices kept; empty for all.
        output: Name of the output; empty for the only one.
    """

    op: ClassVar[str] = "yolo"
    files: ClassVar[tuple[str, ...]] = ()
    style: Literal["yolox", "yolov5", "yolov8"]
    size: tuple[int, int] = (0, 0)
    strides: tuple[int, ...] = (8, 16, 32)
    score: float = 0.25
    iou: float = 0.45
    max_detections: int = 100
    multi_label: bool = False
    classes: tuple[int, ...] = ()
    output: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1 or self.max_detections < 1:
            raise ValueError("iou lies in 0..1 and max_detections is at least 1")

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        name, output = chosen(outcome, self.output, self.op)
        if output.ndim != 2 or output.shape[0 if self.style == "yolov8" else 1] < 6 - (self.style == "yolov8"):
            form = "[4 + classes, anchors]" if self.style == "yolov8" else "[anchors, 5 + classes]"
            raise DataError(
                f"{self.style} takes an output {form} per sample, {name} is {list(output.shape)}",
                hint="choose the right output or style",
            )
        rows = (output.T if self.style == "yolov8" else output).astype(np.float32)
        scores = rows[:, 4:] if self.style == "yolov8" else rows[:, 4:5] * rows[:, 5:]
        anchors, labels = self._candidates(scores)
        found = scores[anchors, labels]
        boxes = corners(self._boxes(rows, anchors, outcome))
        usable = np.isfinite(boxes).all(axis=1)
        boxes, found, labels = boxes[usable], found[usable], labels[usable]
        kept = suppress(boxes, found, labels, self.iou, self.max_detections)
        return outcome.with_decision(_detections(boxes[kept], found[kept], labels[kept], outcome))

    def _candidates(self, scores: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns anchor and class of every candidate."""
        if self.multi_label:
            anchors, labels = np.nonzero(scores >= self.score)
        else:
            best = scores.argmax(axis=1)
            anchors = np.nonzero(scores[np.arange(len(scores)), best] >= self.score)[0]
            labels = best[anchors]
        if self.classes:
            wanted = np.isin(labels, self.classes)
            anchors, labels = anchors[wanted], labels[wanted]
        return anchors, labels

    def _boxes(self, rows: NDArray[Any], anchors: NDArray[Any], outcome: Outcome) -> NDArray[Any]:
        """Returns (x, y, width, height) in pixels of the model's input."""
        boxes = rows[anchors, :4].astype(float)
        if self.style != "yolox":
            return boxes
        size = self.size if min(self.size) > 0 else outcome.geometry.get("input", (0, 0))
        grid, stride = grid_of(tuple(size), self.strides)
        if len(grid) != len(rows):
            raise ConfigError(
                f"yolo: an input of {list(size)} with strides {list(self.strides)} has {len(grid)} anchors, "
                f"the output has {len(rows)}",
                hint="correct size (height and width of the model's input) and strides",
            )
        with np.errstate(over="ignore", invalid="ignore"):
            centre = (boxes[:, :2] + grid[anchors]) * stride[anchors]
            return np.hstack([centre, np.exp(boxes[:, 2:]) * stride[anchors]])


@lru_cache(maxsize=8)
def grid_of(size: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns cell (x, y) [anchors, 2] and stride [anchors, 1] of every anchor, level by level, row by row."""
    cells, widths = [np.zeros((0, 2))], [np.zeros((0, 1))]
    for stride in strides:
        rows, columns = size[0] // stride, size[1] // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1).astype(float))
        widths.append(np.full((rows * columns, 1), float(stride)))
    return np.vstack(cells), np.vstack(widths)


def corners(boxes: NDArray[Any]) -> NDArray[Any]:
    """Returns (x1, y1, x2, y2) of boxes given as (centre x, centre y, width, height)."""
    with np.errstate(invalid="ignore"):
        half = boxes[:, 2:] / 2
        return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half])


def _detections(boxes: NDArray[Any], scores: NDArray[Any], labels: NDArray[Any], outcome: Outcome) -> Detections:
    placed = to_original(boxes, outcome.geometry).tolist()
    return Detections(
        tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in placed), tuple(scores.tolist()), tuple(labels.tolist())
    )
