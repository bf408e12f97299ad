"""mAP against pycocotools on random images with crowds, ties in class, and more than 100 detections."""

from __future__ import annotations

import contextlib
import io
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgewright.core.decision import Detections
from edgewright.errors import DataError
from edgewright.measure import _intervals
from edgewright.measure.metrics.detection import MeanAveragePrecision, map50, map50_95

Case = tuple[list[dict[str, Any]], list[Detections]]


def _boxes(rng: np.random.Generator, n: int) -> np.ndarray:
    corner, size = rng.uniform(0, 80, (n, 2)), rng.uniform(5, 40, (n, 2))
    return np.concatenate([corner, corner + size], axis=1)


def _image(rng: np.random.Generator, classes: int, extra: int, crowds: bool) -> tuple[dict[str, Any], Detections]:
    n = int(rng.integers(0, 6))
    truth, of = _boxes(rng, n), rng.integers(0, classes, n)
    crowd = rng.random(n) < (0.25 if crowds else 0.0)
    near = truth.repeat(2, axis=0) + rng.normal(0, 2.5, (2 * n, 4))
    found = np.concatenate([near, _boxes(rng, extra)])
    kinds = np.concatenate([of.repeat(2), rng.integers(0, classes + 1, extra)])
    scores = rng.random(len(found))
    order = np.argsort(-scores)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    label = {"boxes": truth.tolist(), "classes": of.tolist(), "crowd": crowd.tolist()}
    boxes = tuple(tuple(b) for b in found[order].tolist())
    return label, Detections(boxes, tuple(scores[order].tolist()), tuple(kinds[order].tolist()))


def _case(seed: int, images: int, classes: int = 3, extra: int = 8, crowds: bool = True) -> Case:
    rng = np.random.default_rng(seed)
    pairs = [_image(rng, classes, extra, crowds) for _ in range(images)]
    return [label for label, _ in pairs], [found for _, found in pairs]


def _xywh(box: Any) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _coco(labels: list[dict[str, Any]], found: list[Detections]) -> COCOeval:
    truth = COCO()
    annotations = [
        {"image_id": i, "category_id": c, "bbox": _xywh(b), "area": _xywh(b)[2] * _xywh(b)[3], "iscrowd": int(w)}
        for i, label in enumerate(labels)
        for b, c, w in zip(label["boxes"], label["classes"], label["crowd"], strict=True)
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(labels))],
        "annotations": [{**a, "id": n} for n, a in enumerate(annotations, start=1)],
        "categories": [{"id": c} for c in range(10)],
    }
    results = [
        {"image_id": i, "category_id": c, "bbox": _xywh(b), "score": s}
        for i, one in enumerate(found)
        for b, s, c in zip(one.boxes, one.scores, one.classes, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge


def _contributions(metric: MeanAveragePrecision, case: Case) -> list[Any]:
    labels, found = case
    parts = [metric.contribution(d, label) for d, label in zip(found, labels, strict=True)]
    return json.loads(json.dumps(parts))


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=20, deadline=None)
def test_equals_pycocotools(seed: int, crowds: bool) -> None:
    case = _case(seed, images=12, crowds=crowds)
    if not any(not all(label["crowd"]) for label in case[0] if label["crowd"]):
        return
    judge = _coco(*case)
    assert map50_95().reduce(_contributions(map50_95(), case)) == pytest.approx(judge.stats[0], abs=1e-6)
    assert map50().reduce(_contributions(map50(), case)) == pytest.approx(judge.stats[1], abs=1e-6)


def test_per_class_and_the_limit_of_100_detections_equal_pycocotools() -> None:
    case = _case(11, images=6, classes=1, extra=260)
    judge, metric = _coco(*case), map50_95()
    found = metric.per_class(_contributions(metric, case), [])
    precision = judge.eval["precision"][:, :, 0, 0, -1]
    assert max(len(d.boxes) for d in case[1]) > 200
    assert found == {0: pytest.approx(precision.mean(), abs=1e-6)}


def test_a_perfect_and_an_empty_detector() -> None:
    labels, _ = _case(0, images=10, crowds=False)
    perfect = [
        Detections(tuple(map(tuple, label["boxes"])), (0.9,) * len(label["boxes"]), tuple(label["classes"]))
        for label in labels
    ]
    nothing = [Detections((), (), ())] * 10
    metric = map50()
    # COCO's precision carries an epsilon in its denominator.
    assert metric.reduce(_contributions(metric, (labels, perfect))) == pytest.approx(1.0)
    assert metric.reduce(_contributions(metric, (labels, nothing))) == 0.0


def test_labels_without_a_box_are_refused() -> None:
    metric = map50()
    empty = metric.contribution(Detections((), (), ()), {"boxes": [], "classes": []})
    with pytest.raises(DataError, match="no sample has a labelled box"):
        metric.reduce([empty])
    with pytest.raises(DataError, match="1 boxes, 2 classes"):
        metric.contribution(Detections((), (), ()), {"boxes": [[0, 0, 1, 1]], "classes": [1, 2]})


def test_resampling_is_close_to_repetition() -> None:
    """Repeated images tie in score; COCO then reads a few recalls between the ties, hence not exactly equal."""
    metric = map50_95()
    found = _contributions(metric, _case(5, images=40))
    weights = np.random.default_rng(0).integers(0, 3, (4, 40)).astype(float)
    repeated = [metric.reduce([c for c, w in zip(found, row, strict=True) for _ in range(int(w))]) for row in weights]
    assert metric.resample(found, weights) == pytest.approx(repeated, abs=0.01)
    assert metric.resample(found, np.ones((2, 40))) == pytest.approx([metric.reduce(found)] * 2)


@pytest.mark.slow
def test_interval_of_185_images_is_fast() -> None:
    metric = map50_95()
    found = _contributions(metric, _case(2, images=185, classes=2, extra=60))
    start = time.process_time()
    figure = _intervals.figure(metric, found, "tune", seed=0)
    assert time.process_time() - start < 10
    assert figure.low < figure.value < figure.high
