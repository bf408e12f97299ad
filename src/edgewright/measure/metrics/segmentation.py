"""Mean intersection over union of segmentation masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Decision
from edgewright.errors import DataError
from edgewright.measure.metrics._labels import mask
from edgewright.measure.metrics._resampling import Floats, mean_where, once, ratio_or

IGNORED = 255
"""Label of pixels nobody judges, by the convention of PASCAL VOC and Cityscapes; negative labels likewise."""


@dataclass(frozen=True, slots=True)
class MeanIoU:
    """Intersection over union of all pixels, averaged over the classes that occur.

    Contribution: the non-zero entries of one sample's confusion matrix, [[label, decision, pixels], ...].
    """

    name: str = "miou"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> list[list[int]]:
        found, truth = mask(decision, self.name), np.asarray(label)
        if found.shape != truth.shape:
            raise DataError(
                f"{self.name}: the mask is {found.shape}, the label {truth.shape}",
                hint="label every pixel of the original image",
            )
        judged = (truth != IGNORED) & (truth >= 0)
        pairs = np.stack([truth[judged], found[judged]], axis=1).astype(np.int64)
        cells, counts = np.unique(pairs, axis=0, return_counts=True)
        return [[int(a), int(b), int(n)] for (a, b), n in zip(cells, counts, strict=True)]

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        _, shared, union = _areas(contributions, weights)
        return mean_where(ratio_or(shared, union, 0.0), union > 0)

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        classes, shared, union = _areas(contributions, np.ones((1, len(contributions))))
        value = ratio_or(shared, union, 0.0)[0]
        return {int(c): float(v) for c, v, u in zip(classes, value, union[0], strict=True) if u > 0}


def _areas(contributions: Sequence[Any], weights: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    cells = [(i, *cell) for i, sample in enumerate(contributions) for cell in sample]
    sample, truth, found, pixels = np.asarray(cells, dtype=np.int64).reshape(-1, 4).T
    classes = np.unique(np.concatenate([truth, found]))
    shared = np.zeros((len(contributions), classes.size))
    union = np.zeros_like(shared)
    same = truth == found
    row, column = sample, np.searchsorted(classes, truth)
    np.add.at(shared, (row[same], column[same]), pixels[same])
    np.add.at(union, (row, column), pixels)
    np.add.at(union, (row[~same], np.searchsorted(classes, found[~same])), pixels[~same])
    return classes, weights @ shared, weights @ union
