"""Equal error rate and true accept rate at a false accept rate, on pairs.

A sample is either an embedding with an identity as label (every pair of samples is compared by cosine, the same
identity is a genuine pair), or already a pair: a single score with label 1 (same) or 0 (different).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Decision
from edgewright.errors import DataError
from edgewright.measure.metrics._labels import class_label, single_tensor
from edgewright.measure.metrics._resampling import Floats, once, ratio_or

MOST_PAIRS = 2_000_000
"""Impostor pairs beyond this many are a seeded sample; genuine pairs are always complete."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Compared pairs in ascending order of score, and the samples behind each."""

    score: Floats
    genuine: NDArray[np.bool_]
    first: NDArray[np.intp]
    second: NDArray[np.intp] | None

    def weights(self, samples: Floats) -> Floats:
        """Returns how often each pair occurs when samples are drawn `samples` [resamples, n] times."""
        drawn: Floats = samples[:, self.first]
        return drawn if self.second is None else drawn * samples[:, self.second]


@dataclass(frozen=True, slots=True)
class EqualErrorRate:
    """Error where false accepts and false rejects are equally frequent, interpolated on the ROC curve.

    Contribution: {"identity", "embedding"} or {"same", "score"}.
    """

    name: str = "eer"
    higher_is_better: bool = False

    def contribution(self, decision: Decision, label: Any) -> dict[str, Any]:
        return _contribution(decision, label, self.name)

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        pairs = _pairs(contributions, self.name)
        return np.array([_crossing(*_rates(pairs, row[None])) for row in weights])


@dataclass(frozen=True, slots=True)
class TrueAcceptRate:
    """Largest share of genuine pairs accepted while at most `far` of the impostor pairs are.

    Contribution: as for the equal error rate.
    """

    far: float = 1e-3
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        """`tar@far=0.001`..."""
        return f"tar@far={self.far:g}"

    def contribution(self, decision: Decision, label: Any) -> dict[str, Any]:
        return _contribution(decision, label, self.name)

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        pairs = _pairs(contributions, self.name)
        return np.array([self._at(*_rates(pairs, row[None])) for row in weights])

    def _at(self, false_accepts: Floats, true_accepts: Floats) -> float:
        if np.isnan(false_accepts[-1]) or np.isnan(true_accepts[-1]):
            return float("nan")
        return float(true_accepts[false_accepts <= self.far + 1e-12].max())


def _contribution(decision: Decision, label: Any, metric: str) -> dict[str, Any]:
    if isinstance(decision, Classification):
        scores = dict(zip(decision.indices, decision.scores, strict=True))
        if 1 not in scores:
            raise DataError(
                f"{metric} needs the score of class 1 (same), the decision keeps {sorted(scores)}",
                hint="keep both classes in post-processing: top-k of 2, no threshold",
            )
        return {"same": class_label(label, metric), "score": scores[1]}
    values = single_tensor(decision, metric)
    if values.size == 1:
        return {"same": class_label(label, metric), "score": float(values[0])}
    identity = label if isinstance(label, str) else class_label(label, metric)
    return {"identity": identity, "embedding": values.tolist()}


def _pairs(contributions: Sequence[Any], metric: str) -> _Pairs:
    if "score" in contributions[0]:
        score = np.array([c["score"] for c in contributions], dtype=np.float64)
        genuine = np.array([bool(c["same"]) for c in contributions])
        return _sorted(score, genuine, np.arange(score.size), None, metric)
    vectors = np.array([c["embedding"] for c in contributions], dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    _, identity = np.unique([str(c["identity"]) for c in contributions], return_inverse=True)
    first, second = _chosen(identity)
    score = (
        np.einsum("ij,ij->i", vectors[first], vectors[second])
        if first.size < 10_000
        else _cosines(vectors, first, second)
    )
    return _sorted(score, identity[first] == identity[second], first, second, metric)


def _cosines(vectors: Floats, first: NDArray[np.intp], second: NDArray[np.intp]) -> Floats:
    blocks = range(0, first.size, 10_000)
    return np.concatenate(
        [np.einsum("ij,ij->i", vectors[first[b : b + 10_000]], vectors[second[b : b + 10_000]]) for b in blocks]
    )


def _chosen(identity: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    n = identity.size
    if n * (n - 1) // 2 <= MOST_PAIRS:
        return np.triu_indices(n, k=1)
    genuine = [np.triu_indices(len(rows), k=1) for rows in _groups(identity)]
    first = np.concatenate([rows[i] for rows, (i, _) in zip(_groups(identity), genuine, strict=True)])
    second = np.concatenate([rows[j] for rows, (_, j) in zip(_groups(identity), genuine, strict=True)])
    drawn = np.random.default_rng(0).integers(0, n, size=(2, MOST_PAIRS))
    impostor = drawn[:, identity[drawn[0]] != identity[drawn[1]]]
    return np.concatenate([first, impostor[0]]), np.concatenate([second, impostor[1]])


def _groups(identity: NDArray[Any]) -> list[NDArray[np.intp]]:
    order = np.argsort(identity, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(identity[order])) + 1)


def _sorted(
    score: Floats, genuine: NDArray[np.bool_], first: NDArray[np.intp], second: NDArray[np.intp] | None, metric: str
) -> _Pairs:
    if genuine.all() or not genuine.any():
        kind = "impostor" if genuine.size and genuine.all() else "genuine"
        raise DataError(
            f"{metric} needs genuine and impostor pairs, the {score.size} pairs hold no {kind} one",
            hint="give at least two samples of one identity and samples of two identities",
        )
    order = np.argsort(-score, kind="stable")
    return _Pairs(score[order], genuine[order], first[order], None if second is None else second[order])


def _rates(pairs: _Pairs, samples: Floats) -> tuple[Floats, Floats]:
    """Returns false and true accept rate at every threshold, from "accept nobody" to "accept all"."""
    weights = pairs.weights(samples)[0]
    ends = np.append(np.flatnonzero(np.diff(pairs.score)), pairs.score.size - 1)
    true = np.cumsum(weights * pairs.genuine)[ends]
    false = np.cumsum(weights * ~pairs.genuine)[ends]
    return tuple(np.append(0.0, ratio_or(x, np.full_like(x, x[-1]), np.nan)) for x in (false, true))  # type: ignore[return-value]


def _crossing(false_accepts: Floats, true_accepts: Floats) -> float:
    if np.isnan(false_accepts[-1]) or np.isnan(true_accepts[-1]):
        return float("nan")
    false_rejects = 1.0 - true_accepts
    k = int(np.argmax(false_accepts >= false_rejects))
    step = (false_accepts[k] - false_accepts[k - 1]) + (false_rejects[k - 1] - false_rejects[k])
    part = (false_rejects[k - 1] - false_accepts[k - 1]) / step
    return float(false_accepts[k - 1] + part * (false_accepts[k] - false_accepts[k - 1]))
