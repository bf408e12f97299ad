"""Draws decisions on pictures."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision, Detections, Segmentation

Color = tuple[int, int, int]


def draw(image: NDArray[Any], decision: Decision, labels: Sequence[str], tracks: Sequence[int] = ()) -> NDArray[Any]:
    """Returns a copy of `image` with the decision drawn on it.

    Args:
        image: RGB uint8 [height, width, 3].
        decision: Boxes with label and score, a line of text, or a coloured mask; tensors are not drawn.
        labels: Class names.
        tracks: Per detection, the number of its object; 0 is not written.
    """
    canvas = np.ascontiguousarray(image.copy())
    if isinstance(decision, Detections):
        _draw_boxes(canvas, decision, labels, tracks or [0] * len(decision.boxes))
    elif isinstance(decision, Classification):
        _draw_classes(canvas, decision, labels)
    elif isinstance(decision, Segmentation) and decision.mask.shape == canvas.shape[:2]:
        _draw_mask(canvas, decision.mask)
    return canvas


def color_of(index: int) -> Color:
    """Returns a bright colour for a class; neighbours differ (golden-angle steps of hue)."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1.0, 0.85, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def name_of(index: int, labels: Sequence[str]) -> str:
    """Returns the class name, its number where there is none, and `none` for -1."""
    if index < 0:
        return "none"
    return labels[index] if index < len(labels) else str(index)


def _draw_boxes(canvas: NDArray[Any], found: Detections, labels: Sequence[str], tracks: Sequence[int]) -> None:
    import cv2

    thickness = max(1, round(min(canvas.shape[:2]) / 240))
    # The most certain is drawn last, on top.
    items = list(zip(found.boxes, found.scores, found.classes, tracks, strict=True))
    for box, score, label, track in reversed(items):
        x1, y1, x2, y2 = (round(v) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color_of(label), thickness)
        number = f" #{track}" if track else ""
        _write(canvas, f"{name_of(label, labels)}{number} {score:.2f}", (x1, y1), color_of(label), above=True)


def _draw_classes(canvas: NDArray[Any], found: Classification, labels: Sequence[str]) -> None:
    top = 0
    for index, score in list(zip(found.indices, found.scores, strict=True))[:3]:
        top += _write(canvas, f"{name_of(index, labels)} {score:.2f}", (0, top), color_of(index), above=False)


def _draw_mask(canvas: NDArray[Any], mask: NDArray[Any]) -> None:
    for index in np.unique(mask):
        if index:
            place = mask == index
            canvas[place] = (canvas[place] * 0.5 + np.array(color_of(int(index))) * 0.5).astype(np.uint8)


def _write(canvas: NDArray[Any], text: str, corner: tuple[int, int], color: Color, *, above: bool) -> int:
    """Writes `text` on a coloured bar inside the picture and returns the bar's height in pixels."""
    import cv2

    scale = max(0.35, min(canvas.shape[:2]) / 900)
    plain = text.encode("ascii", "replace").decode()
    (width, height), base = cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    bar = height + base + 2
    x = min(max(0, corner[0]), max(0, canvas.shape[1] - width))
    y = max(0, corner[1] - bar) if above else corner[1]
    cv2.rectangle(canvas, (x, y), (x + width, y + bar), color, -1)
    cv2.putText(canvas, plain, (x, y + height + 1), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return int(bar)
