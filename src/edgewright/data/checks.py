"""Checks over the whole data: splits that overlap, labels, and samples against the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import combinations, islice
from typing import Any

import numpy as np

from edgewright.data.opened import Data, Split
from edgewright.errors import DataError

CONTENT_SAMPLES = 5000
"""Splits up to this many samples are also compared by content."""

CONTENT_BYTES = 512 * 2**20
"""Reading for that comparison stops after this many bytes per split."""


def check_data(data: Data, prepared: int = 8) -> None:
    """Checks what can be checked before anything expensive is done.

    Args:
        data: Opened data.
        prepared: How many samples of every split are run through the pre-processing and held against the model.

    Raises:
        DataError: Two splits share samples, by file and row or (small splits) by content; a label is out of range;
            a sample does not fit the model.
    """
    splits = [data.dataset(name) for name in data.splits]
    _ = data.labels
    for one, other in combinations(splits, 2):
        _refuse_shared_rows(one, other)
    _refuse_shared_content(splits)
    for split in splits:
        for sample in islice(split, prepared):
            data.prepare(sample)


def _refuse_shared_rows(one: Split, other: Split) -> None:
    first, second = one.origin(), other.origin()
    for path in first.keys() & second.keys():
        shared = np.intersect1d(first[path], second[path])
        if len(shared):
            rows = ", ".join(map(str, shared[:3].tolist()))
            some = path if len(first[path]) == 1 else f"rows {rows} of {path}"
            raise _overlap(one, other, max(len(shared), len(first.keys() & second.keys())), some)


def _refuse_shared_content(splits: list[Split]) -> None:
    seen: dict[str, dict[bytes, str]] = {}
    for split in splits:
        if len(split) > CONTENT_SAMPLES:
            continue
        seen[split.name] = dict(_fingerprints(split))
    for one, other in combinations([s for s in splits if s.name in seen], 2):
        shared = seen[one.name].keys() & seen[other.name].keys()
        if shared:
            pairs = [f"{seen[one.name][key]} = {seen[other.name][key]}" for key in sorted(shared)[:3]]
            raise _overlap(one, other, len(shared), "the same content: " + ", ".join(pairs))


def _fingerprints(split: Split) -> Iterator[tuple[bytes, str]]:
    left = CONTENT_BYTES
    for sample in split:
        content = content_bytes(sample.value)
        if content is None or left < 0:
            return
        left -= len(content)
        yield hashlib.blake2b(content, digest_size=16).digest(), sample.id


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
