"""Where a report finds what the study only names: outcomes per sample, and the samples themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgewright.core.data import Dataset, Sample
from edgewright.core.digest import Digest
from edgewright.core.recipe import Candidate


class Evidence(Protocol):
    """What the flip gallery reads."""

    def file(self, candidate: Candidate, name: str) -> Path | None:
        """Returns the folder kept under an evidence name (`tune-outcomes`, `test-outcomes`...), if it still exists."""

    def sample(self, split: str, id: str) -> Sample | None:
        """Returns one raw sample of `tune` or `test`, if it still exists."""


@dataclass(slots=True)
class StoredEvidence:
    """Evidence from a store of folders and from the project's data.

    Attributes:
        folder: Digest -> folder in the store, None when it was collected since.
        dataset: Split -> its samples.
    """

    folder: Callable[[Digest], Path | None]
    dataset: Callable[[str], Dataset]

    def file(self, candidate: Candidate, name: str) -> Path | None:
        digest = candidate.evidence.get(name)
        return None if digest is None else self.folder(digest)

    def sample(self, split: str, id: str) -> Sample | None:
        return next((sample for sample in self.dataset(split) if sample.id == id), None)


class NoEvidence:
    """Nothing was kept: a report without a gallery."""

    def file(self, candidate: Candidate, name: str) -> Path | None:
        return None

    def sample(self, split: str, id: str) -> Sample | None:
        return None
