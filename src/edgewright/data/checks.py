"""Checks over the whole data: splits that overlap, labels, and samples against the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Any

import numpy as np

from edgewright.core.data import JUDGING_SPLITS, Sample
from edgewright.data.opened import Data, Split
from edgewright.errors import DataError
from edgewright.pipeline.preprocess import check_finite

CONTENT_SAMPLES = 20_000
"""Splits up to this many samples are also compared by content."""

CONTENT_BYTES = 512 * 2**20
"""Reading for that comparison stops after this many bytes per split."""

CONTENT_SHARE = 0.05
"""Real data hold a few recordings twice; splits that share more than this part of the smaller one are refused."""


def check_data(data: Data, prepared: int = 8) -> tuple[str, ...]:
    """Checks what can be checked before anything expensive is done.

    Args:
        data: Opened data.
        prepared: How many samples of every split are run through the pre-processing and held against the model.

    Returns:
        Warnings, one sentence each: splits that share a few samples of equal content.

    Raises:
        DataError: `tune` or `test` shares samples with another split, by file and row, or (small splits) more than 5%
            by content; a label is out of range; a value is not finite; a sample does not fit the model.
    """
    splits = [data.dataset(name) for name in data.splits]
    _ = data.labels
    for one, other in combinations(splits, 2):
        if _must_differ(one, other):
            _refuse_shared_rows(one, other)
    warnings = _shared_content(splits)
    for split in splits:
        for sample in islice(split, prepared):
            data.prepare(sample)
    return warnings


def _must_differ(one: Split, other: Split) -> bool:
    """Training samples may calibrate, too; what judges must be new to everything before it."""
    return one.name in JUDGING_SPLITS or other.name in JUDGING_SPLITS


def _refuse_shared_rows(one: Split, other: Split) -> None:
    first, second = one.origin(), other.origin()
    for path in first.keys() & second.keys():
        shared = np.intersect1d(first[path], second[path])
        if len(shared):
            rows = ", ".join(map(str, shared[:3].tolist()))
            some = path if len(first[path]) == 1 else f"rows {rows} of {path}"
            raise _overlap(one, other, max(len(shared), len(first.keys() & second.keys())), some)


def _shared_content(splits: list[Split]) -> tuple[str, ...]:
    seen = {split.name: dict(_fingerprints(split)) for split in splits if len(split) <= CONTENT_SAMPLES}
    warnings: list[str] = []
    for one, other in combinations([split for split in splits if split.name in seen], 2):
        if not _must_differ(one, other):
            continue
        shared = seen[one.name].keys() & seen[other.name].keys()
        pairs = sorted(f"{seen[one.name][key]} = {seen[other.name][key]}" for key in shared)
        if len(shared) > CONTENT_SHARE * min(len(one), len(other)):
            raise _overlap(one, other, len(shared), "the same content: " + ", ".join(pairs[:3]))
        if shared:
            warnings.append(
                f"{one.name} and {other.name} share {len(shared)} sample(s) of the same content: {', '.join(pairs[:3])}"
            )
    return tuple(warnings)


def _fingerprints(split: Split) -> Iterator[tuple[bytes, str]]:
    left = CONTENT_BYTES
    for sample in split:
        _refuse_not_finite(sample, split.name)
        content = content_bytes(sample.value)
        if content is None or left < 0:
            return
        left -= len(content)
        yield hashlib.blake2b(content, digest_size=16).digest(), sample.id


def _refuse_not_finite(sample: Sample, split: str) -> None:
    values = sample.value.values() if isinstance(sample.value, Mapping) else [sample.value]
    for value in values:
        if isinstance(value, np.ndarray):
            check_finite(value, f"{split}, sample {sample.id}: the data", "repair or remove the sample")


def content_bytes(value: Any) -> bytes | None:
    """Returns the content of a raw value, so that equal values give equal bytes; None where it has no such form."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, Mapping):
        parts = [(str(key), content_bytes(entry)) for key, entry in sorted(value.items())]
        return b"\0".join(k.encode() + b"=" + (v or b"") for k, v in parts)
    return None


def _overlap(one: Split, other: Split, count: int, examples: str) -> DataError:
    return DataError(
        f"the splits {one.name} and {other.name} share {count} sample(s): {examples}",
        hint=f"give [data.{one.name}] and [data.{other.name}] rows, or files, that do not overlap",
    )
