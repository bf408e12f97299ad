"""What became of every test sample, beside the bundle: what a later release is compared with."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.core.data import QualityFigure, Sample
from edgewright.errors import Corrupt
from edgewright.measure._outcomes import Outcome

SCHEMA = 1
SUFFIX = ".outcomes.json.gz"
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class MetricName:
    """A metric by name, with its direction."""

    name: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One sample.

    Attributes:
        digest: Of its raw value and its label; empty where it could not be read any more.
        outcome: What was decided about it, and what each metric counts.
    """

    digest: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SampleRecords:
    """Every sample of a split, as one artifact decided.

    Attributes:
        schema: Version of this layout.
        target: Whose winner.
        candidate: Its id in the study.
        split: `test`, or `tune` where that is all there is.
        metrics: The first is the one that is judged.
        labels: Class names by index.
        samples: In the order of the data.
    """

    schema: int
    target: str
    candidate: str
    split: str
    metrics: tuple[MetricName, ...]
    labels: tuple[str, ...]
    samples: tuple[SampleRecord, ...]


def records_file(bundle: Path) -> Path:
    """Returns the file of outcomes that belongs to a bundle, whether it is there or not."""
    return bundle.with_name(bundle.name.removesuffix(".ewb") + SUFFIX)


def gather(
    target: str,
    candidate: str,
    figures: Sequence[QualityFigure],
    labels: Sequence[str],
    outcomes: Sequence[Outcome],
    dataset: Iterable[Sample],
) -> SampleRecords:
    """Puts outcomes and the digests of their samples together; reads the data once, up to the last sample.

    Args:
        target: Whose winner.
        candidate: Its id in the study.
        figures: Of its quality on the split; their metrics and directions are taken over.
        labels: Class names by index.
        outcomes: Of the evaluation.
        dataset: The same split.
    """
    wanted = {outcome.id for outcome in outcomes}
    digests: dict[str, str] = {}
    for sample in dataset:
        if sample.id in wanted:
            digests[sample.id] = sample_digest(sample)
        if len(digests) == len(wanted):
            break
    metrics = tuple(MetricName(figure.metric, figure.higher_is_better) for figure in figures)
    samples = tuple(SampleRecord(digests.get(outcome.id, ""), outcome) for outcome in outcomes)
    return SampleRecords(SCHEMA, target, candidate, figures[0].split, metrics, tuple(labels), samples)


def sample_digest(sample: Sample) -> str:
    """Returns what tells a sample from another of the same id: a digest of its raw value and its label."""
    hasher = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    _feed(hasher, sample.value)
    _feed(hasher, sample.label)
    return hasher.hexdigest()


def _feed(hasher: hashlib.blake2b, value: Any) -> None:
    """Adds a value with its kind and length, so that no two values read the same."""
    if isinstance(value, Mapping):
        hasher.update(f"mapping {len(value)};".encode())
        for key in sorted(value, key=str):
            _feed(hasher, str(key))
            _feed(hasher, value[key])
    elif isinstance(value, (list, tuple)):
        hasher.update(f"list {len(value)};".encode())
        for item in value:
            _feed(hasher, item)
    else:
        kind, content = _content(value)
        hasher.update(f"{kind} {len(content)};".encode())
        hasher.update(content)


def _content(value: Any) -> tuple[str, bytes]:
    if isinstance(value, Path):
        return "bytes", value.read_bytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", bytes(value)
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        array = np.ascontiguousarray(value)
        return f"array {array.dtype.str} {array.shape}", array.tobytes()
    return type(value).__name__, repr(value).encode()


def write_records(records: SampleRecords, file: Path) -> None:
    """Writes the same bytes for equal outcomes, whole or not at all."""
    from edgewright.store.files import write_atomic

    write_atomic(file, gzip.compress(msgspec.json.encode(records), compresslevel=6, mtime=0))


def read_records(file: Path) -> SampleRecords | None:
    """Reads what `write_records` wrote; None where there is no such file.

    Raises:
        Corrupt: It is damaged.
    """
    try:
        return msgspec.json.decode(gzip.decompress(file.read_bytes()), type=SampleRecords)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
        raise Corrupt(f"{file}: not the outcomes of a release: {error}", hint="fetch the release again") from error
