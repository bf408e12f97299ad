"""Average precision of one class for many bootstrap resamples of the images at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgewright.measure.metrics._resampling import Floats

RECALLS = np.linspace(0.0, 1.0, 101)
_CELLS = 2_000_000
"""Resamples are worked off in blocks of about this many numbers, which bounds memory."""


def average_precision(rows: Sequence[tuple[int, Any]], thresholds: int, weights: Floats) -> Floats:
    """Returns the 101-point interpolated average precision.

    Args:
        rows: (image, [class, labelled boxes, scores, hits, ignored]) of one class, images ascending.
        thresholds: How many IoU thresholds the bit masks cover.
        weights: [resamples, images], how often each image was drawn.

    Returns:
        [resamples, thresholds]; NaN where a resample holds no labelled box of the class.
    """
    image = np.repeat([i for i, _ in rows], [len(entry[2]) for _, entry in rows]).astype(np.intp)
    score = _joined(rows, 2)
    hits, ignored = (_joined(rows, field).astype(np.int64) for field in (3, 4))
    positives = weights[:, [i for i, _ in rows]] @ np.array([float(entry[1]) for _, entry in rows])
    order = np.argsort(-score, kind="stable")
    image, hits, ignored = image[order], hits[order], ignored[order]
    result = np.zeros((len(weights), thresholds))
    step = max(1, _CELLS // max(1, image.size))
    for start in range(0, len(weights), step):
        block = slice(start, start + step)
        drawn = weights[block][:, image]
        listed = np.cumsum(drawn, axis=1)
        for bit in range(thresholds):
            hit, skipped = (hits >> bit & 1).astype(bool), (ignored >> bit & 1).astype(bool)
            judged = listed - np.cumsum(drawn * skipped, axis=1) if skipped.any() else listed
            result[block, bit] = _area(drawn[:, hit], judged[:, hit], positives[block])
    result[positives == 0] = np.nan
    return result


def _joined(rows: Sequence[tuple[int, Any]], field: int) -> Floats:
    return np.concatenate([np.asarray(entry[field], dtype=np.float64) for _, entry in rows])


def _area(drawn: Floats, judged: Floats, positives: Floats) -> Floats:
    """Area under the precision envelope.

    Precision falls between hits and recall stands still, so only the hits, in descending score, matter.

    Args:
        drawn: [resamples, hits], how often each hit was drawn.
        judged: [resamples, hits], detections so far that count.
        positives: [resamples], labelled boxes.
    """
    if drawn.shape[1] == 0:
        return np.zeros(len(drawn))
    true = np.cumsum(drawn, axis=1)
    recall = true / np.maximum(positives, 1.0)[:, None]
    precision = true / (judged + np.spacing(1.0))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search for all rows: each row is shifted into an interval of its own (the first by nothing).
    shift = 2.0 * np.arange(len(drawn))[:, None]
    at = np.searchsorted((recall + shift).ravel(), (RECALLS + shift).ravel()).reshape(len(drawn), -1)
    width = drawn.shape[1]
    column = at - width * np.arange(len(drawn))[:, None]
    read = np.take_along_axis(envelope, np.minimum(column, width - 1), axis=1)
    area: Floats = np.where(column < width, read, 0.0).mean(axis=1)
    return area
