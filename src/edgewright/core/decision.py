"""What a model decided about one sample, after post-processing.

The same values go into golden pairs, metrics, the flip gallery and the JSON lines of `edgewright run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Classification:
    """Classes in descending order of score: `indices[0]` is the decision; -1 means "none" (below threshold)."""

    kind: ClassVar[str] = "classification"
    indices: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Detections:
    """Objects found in one image, in descending order of score.

    Attributes:
        boxes: (x1, y1, x2, y2) in pixels of the original image.
        scores: In [0, 1].
        classes: Class indices.
    """

    kind: ClassVar[str] = "detections"
    boxes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """One class index per pixel, int, [height, width] of the original image."""

    kind: ClassVar[str] = "segmentation"
    mask: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """The outputs themselves, without the batch axis: regression, embeddings, anything undeclared."""

    kind: ClassVar[str] = "tensors"
    values: Mapping[str, NDArray[Any]]


Decision = Classification | Detections | Segmentation | Tensors


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """Returns a JSON-able mapping with a `kind` key; arrays become nested lists."""
    if isinstance(decision, Segmentation):
        return {"kind": decision.kind, "mask": decision.mask.tolist()}
    if isinstance(decision, Tensors):
        values = {name: {"dtype": str(a.dtype), "data": a.tolist()} for name, a in decision.values.items()}
        return {"kind": decision.kind, "values": values}
    if isinstance(decision, Classification):
        return {"kind": decision.kind, "indices": list(decision.indices), "scores": list(decision.scores)}
    return {
        "kind": decision.kind,
        "boxes": [list(box) for box in decision.boxes],
        "scores": list(decision.scores),
        "classes": list(decision.classes),
    }


def decision_from_json(data: Mapping[str, Any]) -> Decision:
    """Reads back what `decision_to_json` wrote.

    Raises:
        ValueError: `kind` is unknown or a field is missing.
    """
    kind = data.get("kind")
    try:
        if kind == "classification":
            return Classification(tuple(map(int, data["indices"])), tuple(map(float, data["scores"])))
        if kind == "detections":
            boxes = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in data["boxes"])
            return Detections(boxes, tuple(map(float, data["scores"])), tuple(map(int, data["classes"])))
        if kind == "segmentation":
            return Segmentation(np.asarray(data["mask"]))
        if kind == "tensors":
            return Tensors({k: np.asarray(v["data"], dtype=v["dtype"]) for k, v in data["values"].items()})
    except (KeyError, TypeError) as error:
        raise ValueError(f"malformed {kind} decision: {error}") from error
    raise ValueError(f"unknown decision kind {kind!r}")
