"""Top-k accuracy, macro F1 and area under the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision
from edgewright.errors import DataError
from edgewright.measure.metrics._labels import class_label, classification, single_tensor
from edgewright.measure.metrics._resampling import Floats, mean_where, once, ratio_or, row_means


@dataclass(frozen=True, slots=True)
class TopK:
    """Share of samples whose label is among the k best classes. Contribution: 1 or 0."""

    k: int
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """`top-1`, `top-5`..."""
        return f"top-{self.k}"

    def contribution(self, decision: Decision, label: Any) -> int:
        best = classification(decision, self.name).indices[: self.k]
        return int(class_label(label, self.name) in best)

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        return row_means(np.asarray(contributions, dtype=np.float64), weights)

    def hits(self, contributions: Sequence[Any]) -> NDArray[np.bool_] | None:
        return np.asarray(contributions, dtype=bool)

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        """Recall of each class."""
        truth = np.array([class_label(label, self.name) for label in labels])
        hit = np.asarray(contributions, dtype=np.float64)
        return {int(c): float(hit[truth == c].mean()) for c in np.unique(truth)}


@dataclass(frozen=True, slots=True)
class MacroF1:
    """F1 averaged over the classes that occur as label or decision. Contribution: [label, decision]."""

    name: str = "f1"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> list[int]:
        found = classification(decision, self.name).indices
        return [class_label(label, self.name), found[0] if found else -1]

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        _, score, present = _f1(contributions, weights)
        return mean_where(score, present)

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        classes, score, present = _f1(contributions, np.ones((1, len(contributions))))
        return {int(c): float(s) for c, s, p in zip(classes, score[0], present[0], strict=True) if p}


def _f1(contributions: Sequence[Any], weights: Floats) -> tuple[NDArray[Any], Floats, NDArray[np.bool_]]:
    pairs = np.asarray(contributions, dtype=np.int64).reshape(-1, 2)
    # -1 means "no decision": it is wrong wherever it stands, but no class of its own.
    classes = np.unique(pairs[pairs >= 0])
    label, decided = (pairs[:, [i]] == classes for i in (0, 1))
    hit = weights @ (label & decided).astype(np.float64)
    named = weights @ label.astype(np.float64) + weights @ decided.astype(np.float64)
    return classes, ratio_or(2.0 * hit, named, 0.0), named > 0


@dataclass(frozen=True, slots=True)
class RocAuc:
    """Area under the ROC curve; one against the rest, averaged over classes, when there are more than two.

    Contribution: [label, score of class 0, score of class 1, ...], or [label, score] for a single score.
    Ties count half (Hanley & McNeil 1982), as in scikit-learn.
    """

    name: str = "roc-auc"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> list[float]:
        truth = class_label(label, self.name)
        if isinstance(decision, Classification):
            return [truth, *_scores_by_class(decision, self.name)]
        return [truth, *single_tensor(decision, self.name).tolist()]

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        areas = np.stack([area for _, area in self._areas(contributions, weights)], axis=1)
        return mean_where(areas, ~np.isnan(areas))

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        areas = self._areas(contributions, np.ones((1, len(contributions))))
        return {c: float(area[0]) for c, area in areas if not np.isnan(area[0])}

    def _areas(self, contributions: Sequence[Any], weights: Floats) -> list[tuple[int, Floats]]:
        table = np.asarray(contributions, dtype=np.float64)
        truth, scores = table[:, 0].astype(np.int64), table[:, 1:]
        if scores.shape[1] <= 2:
            self._refuse_more_than_two(truth)
            return [(1, roc_area(scores[:, -1], truth == 1, weights))]
        return [(c, roc_area(scores[:, c], truth == c, weights)) for c in range(scores.shape[1])]

    def _refuse_more_than_two(self, truth: NDArray[np.int64]) -> None:
        other = sorted(set(np.unique(truth).tolist()) - {0, 1})
        if other:
            raise DataError(
                f"{self.name} with a single score expects labels 0 and 1, got {other[:5]}",
                hint="label the positive samples 1 and the others 0",
            )


def _scores_by_class(decision: Classification, metric: str) -> list[float]:
    scores = dict(zip(decision.indices, decision.scores, strict=True))
    if sorted(scores) != list(range(len(scores))):
        raise DataError(
            f"{metric} needs the score of every class, the decision keeps those of {sorted(scores)}",
            hint="keep every class in post-processing: no threshold, top-k as large as the number of classes",
        )
    return [scores[c] for c in range(len(scores))]


def roc_area(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Returns the area per row of `weights` [resamples, n]; NaN where one of the two kinds is absent."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    above = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    won = (above * (np.cumsum(below, axis=1) - 0.5 * below)).sum(axis=1)
    return ratio_or(won, above.sum(axis=1) * below.sum(axis=1), np.nan)
