"""Doubts about a calibration set: what a warning is worth before hours are spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Sample
from edgewright.data.checks import content_bytes
from edgewright.data.opened import Data, Split

FEWEST = 100
"""Samples a calibration set should have."""

LOOKED_AT = 100
"""Samples per split that are looked at."""

MOST_VALUES = 4_000_000
"""Values in all that are looked at for noise: enough for a few large images, or for every small sample."""

SMALLEST = 16
"""Values a sample must have before its correlations say anything."""


def calibration_warnings(data: Data) -> tuple[str, ...]:
    """Says what speaks against the calibration set, one sentence each.

    It is doubted when it has under 100 samples, holds one sample over and over, looks like random numbers, or is
    skewed against the test data: other classes, or inputs of another mean or spread.

    Args:
        data: Opened data; without a split `calibration` there is nothing to say.

    Raises:
        DataError: A sample does not fit.
    """
    if "calibration" not in data.splits:
        return ()
    split = data.dataset("calibration")
    samples = list(islice(split.spread(LOOKED_AT), LOOKED_AT))
    found = [*_too_few(split), *_repeated(samples), *_random(data, samples)]
    if "test" in data.splits:
        test = data.dataset("test")
        found += _skewed_classes(data, split, test)
        found += _skewed_inputs(data, samples, list(islice(test.spread(LOOKED_AT), LOOKED_AT)))
    return tuple(found)


def _too_few(split: Split) -> list[str]:
    if len(split) >= FEWEST:
        return []
    return [f"the calibration set has {len(split)} samples; ranges are usually stable from {FEWEST} on"]


def _repeated(samples: Sequence[Sample]) -> list[str]:
    contents = [content_bytes(sample.value) for sample in samples]
    different = len(set(contents))
    if None in contents or len(samples) < 4 or different > len(samples) // 2:
        return []
    return [f"of {len(samples)} calibration samples only {different} differ"]


def _random(data: Data, samples: Sequence[Sample]) -> list[str]:
    kind = looks_random(list(_enough(data, samples)))
    if not kind:
        return []
    return [f"the calibration samples look like random numbers ({kind}); calibrate with real data"]


def _enough(data: Data, samples: Sequence[Sample]) -> Iterator[NDArray[Any]]:
    """Yields raw arrays, or prepared ones where the raw value is encoded: two, and more up to `MOST_VALUES`."""
    values = 0
    for number, sample in enumerate(samples):
        raw = sample.value
        array = raw if isinstance(raw, np.ndarray) else _main(data.prepare(sample).tensors)
        values += array.size
        if number >= 2 and values > MOST_VALUES:
            return
        yield array


def looks_random(values: Sequence[Any]) -> str:
    """Says which noise the samples look like, or "".

    Noise has no correlation between neighbours along any axis, and no position whose values differ from those at
    other positions: real images and sounds have the first, real feature vectors the second. (Every statistic is
    held against what independent values would give: correlations within 4 standard errors, the spread of the
    positions' means within 1.5 times that of independent values.)

    Args:
        values: Samples as arrays of one shape; anything else does not look random.
    """
    if len(values) < 2 or len({np.shape(value) for value in values}) != 1:
        return ""
    stacked = np.stack([np.asarray(value) for value in values])
    if stacked.dtype.kind not in "iuf" or stacked[0].size < SMALLEST or stacked.dtype in (np.int64, np.uint64):
        return ""
    stacked = stacked.astype(np.float64)
    deviation = stacked.std()
    if not deviation or not np.isfinite(deviation):
        return ""
    scores = (stacked - stacked.mean()) / deviation
    if any(_correlated(scores, axis) for axis in range(scores.ndim)) or _positions_differ(scores):
        return ""
    return "uniform" if float((scores**4).mean()) < 2.4 else "normal"


def _correlated(scores: NDArray[Any], axis: int) -> bool:
    if scores.shape[axis] < 2:
        return False
    length = scores.shape[axis]
    product = scores.take(range(1, length), axis) * scores.take(range(length - 1), axis)
    return bool(abs(product.mean()) > 4 / np.sqrt(product.size) + 0.005)


def _positions_differ(scores: NDArray[Any]) -> bool:
    means = scores.reshape(len(scores), -1).mean(axis=0)
    freedom = len(means)
    return bool(means.var() * len(scores) > 1.5 + 4 * np.sqrt(2 / freedom))


def _main(tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    return max(tensors.values(), key=lambda array: array.size)


def _skewed_classes(data: Data, calibration: Split, test: Split) -> list[str]:
    if not (calibration.has_labels and test.has_labels):
        return []
    ours, theirs = _classes(calibration), _classes(test)
    if not ours or not theirs:
        return []
    names = data.labels
    shown = {c: names[c] if 0 <= c < len(names) else str(c) for c in ours.keys() | theirs.keys()}
    size, whole = sum(ours.values()), sum(theirs.values())
    shares = {c: (ours[c] / size, theirs[c] / whole) for c in shown}
    distance = sum(abs(a - b) for a, b in shares.values()) / 2
    chance = sum(np.sqrt(b * (1 - b) * 2 / np.pi * (1 / size + 1 / whole)) for _, b in shares.values()) / 2
    if distance <= 0.1 + 2 * chance:
        return []
    worst = max(shares, key=lambda c: abs(shares[c][0] - shares[c][1]))
    a, b = shares[worst]
    return [
        f"the classes of the calibration set are skewed against the test data: {shown[worst]} makes up {a:.0%} of it "
        f"and {b:.0%} of the test data"
    ]


def _classes(split: Split) -> Counter[int]:
    """Counts class indices, of images or of the boxes in them; empty when labels are something else."""
    counts: Counter[int] = Counter()
    for sample in split.spread(LOOKED_AT * 5):
        label = sample.label
        found = label.get("classes", ()) if isinstance(label, Mapping) else [label]
        counts.update(c for c in found if isinstance(c, int))
    return counts


@dataclass(frozen=True, slots=True)
class _Moments:
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]


def _moments(data: Data, samples: Sequence[Sample]) -> _Moments:
    arrays = [_main(data.prepare(sample).tensors) for sample in samples]
    return _Moments(
        np.asarray([a.mean(dtype=np.float64) for a in arrays]), np.asarray([a.std(dtype=np.float64) for a in arrays])
    )


def _skewed_inputs(data: Data, calibration: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    if len(calibration) < 8 or len(test) < 8 or isinstance(calibration[0].value, str):
        return []
    ours, theirs = _moments(data, calibration), _moments(data, test)
    found: list[str] = []
    for what, a, b in (("mean", ours.mean, theirs.mean), ("spread", ours.spread, theirs.spread)):
        if _differ(a, b):
            found.append(
                f"the inputs of the calibration set are skewed against the test data: their {what} is "
                f"{np.median(a):.3g} and that of the test data {np.median(b):.3g} (medians over samples)"
            )
    return found


def _differ(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Tells a difference of means that is large (over half a standard deviation of the test data) and no chance."""
    distance = abs(a.mean() - b.mean())
    error = np.sqrt(a.var() / len(a) + b.var() / len(b))
    return bool(distance > 0.5 * b.std() and distance > 4 * error)
