"""Where a report finds what the study only names: outcomes per sample, and the samples themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgewright.core.data import Dataset, Sample
from edgewright.core.digest import Digest
from edgewright.core.recipe import Candidate
from edgewright.core.step import StepRecord


class Evidence(Protocol):
    """What the flip gallery and the sections about compression read."""

    rate: int | None
    """Samples per second of sounds that are bare arrays; None where the data do not say."""

    def file(self, candidate: Candidate, name: str) -> Path | None:
        """Returns the folder kept under an evidence name (`tune-outcomes`, `test-outcomes`...), if it still exists."""

    def made(self, record: StepRecord) -> Path | None:
        """Returns the folder that a step of a lineage wrote, if it still exists."""

    def sample(self, split: str, id: str) -> Sample | None:
        """Returns one raw sample of `tune` or `test`, if it still exists."""


@dataclass(slots=True)
class StoredEvidence:
    """Evidence from a store of folders and from the project's data.

    Samples asked for in the order of their data set cost one pass over it, whatever their number, and one sample of
    memory.

    Attributes:
        folder: Digest -> folder in the store, None when it was collected since.
        dataset: Split -> its samples.
        rate: Samples per second of sounds that are bare arrays (`sound_rate` finds it).
    """

    folder: Callable[[Digest], Path | None]
    dataset: Callable[[str], Dataset]
    rate: int | None = None
    _open: dict[str, Iterator[Sample]] = field(default_factory=dict)

    def file(self, candidate: Candidate, name: str) -> Path | None:
        digest = candidate.evidence.get(name)
        return None if digest is None else self.folder(digest)

    def made(self, record: StepRecord) -> Path | None:
        return self.folder(record.output)

    def sample(self, split: str, id: str) -> Sample | None:
        """Looks onward from the last sample found, then once more from the start."""
        passes = [self._open[split]] if split in self._open else []
        for stream in (*passes, iter(self.dataset(split))):
            for sample in stream:
                if sample.id == id:
                    self._open[split] = stream
                    return sample
        return None


class NoEvidence:
    """Nothing was kept: a report without a gallery."""

    rate: int | None = None

    def file(self, candidate: Candidate, name: str) -> Path | None:
        return None

    def made(self, record: StepRecord) -> Path | None:
        return None

    def sample(self, split: str, id: str) -> Sample | None:
        return None


def sound_rate(preprocess: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the first `sample_rate` in a list of pre-processing tables."""
    rates = (table.get("sample_rate") for table in preprocess)
    return next((int(rate) for rate in rates if isinstance(rate, (int, float))), None)
