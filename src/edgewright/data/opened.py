"""Opened data: samples, prepared samples and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.data import SPLITS, UNLABELLED, Prepared, Sample
from edgewright.core.tensors import TensorSpec
from edgewright.data.labels import check_label
from edgewright.data.readers import reader_of
from edgewright.data.source import Indices, Source
from edgewright.data.spec import SCHEMA, DataSpec
from edgewright.errors import ConfigError, Corrupt, DataError, EdgewrightError
from edgewright.pipeline import Postprocess, Preprocess

Batch = tuple[list[Sample], list[Prepared], dict[str, NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Split:
    """The samples of one split (a `core.data.Dataset`), their labels checked as they pass.

    Those of `unlabelled` have none, whatever their reader finds.
    """

    name: str
    source: Source
    labels: tuple[str, ...]

    @property
    def has_labels(self) -> bool:
        """Whether samples carry labels."""
        return self.source.has_labels and self.name != UNLABELLED

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Sample]:
        for sample in self.source:
            if self.name == UNLABELLED:
                yield replace(sample, label=None)
                continue
            check_label(sample, len(self.labels), self.name)
            yield sample

    def spread(self, count: int) -> Split:
        """Returns about `count` samples (under twice as many) spread evenly: data are often sorted by class."""
        return replace(self, source=self.source.thinned(max(len(self) // count, 1)))

    def origin(self) -> Mapping[str, Indices]:
        """Returns file -> rows of it that are used."""
        return self.source.origin()


class Data:
    """What a project's data are, opened. Readers are opened when a split is first asked for.

    Attributes:
        spec: As stored.
        preprocess: Raw value -> `Prepared`.
        postprocess: (Outputs without batch axis, `Prepared`) -> `Decision`; has `reset()`.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.root = Path(spec.root)
        self.preprocess = Preprocess.from_spec(spec.preprocess, self.root, spec.inputs)
        self.postprocess = Postprocess.from_spec(spec.postprocess, self.root)
        self._splits: dict[str, Split] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are, calibration first."""
        return tuple(name for name in SPLITS if name in self.spec.splits)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in index order: the project's, or those a reader found (folder names); may be empty."""
        if self.spec.labels:
            return self.spec.labels
        told = [name for name in self.splits if name != UNLABELLED]
        found = {name: self.dataset(name).labels for name in told if self.dataset(name).labels}
        if len(set(found.values())) > 1:
            (one, first), (other, second) = list(found.items())[:2]
            differing = ", ".join(sorted(set(first) ^ set(second))[:5])
            raise DataError(
                f"the splits {one} and {other} have different class folders: {differing}",
                hint="set labels = [...] in the project, in index order",
            )
        return next(iter(found.values()), ())

    def dataset(self, split: str) -> Split:
        """Returns the samples of a split: `calibration`, `tune`, `test`, `train` or `unlabelled`.

        Raises:
            ConfigError: There is no such split, or its table is wrong.
            DataError: Its files are missing or malformed.
        """
        if split not in self._splits:
            if split not in self.spec.splits:
                known = ", ".join(self.splits) or "none"
                raise ConfigError(f'there is no split "{split}" (there are: {known})', hint=f"add [data.{split}]")
            source = reader_of(self.spec.splits[split], f"[data.{split}]").open(self.root, self.spec.labels)
            self._splits[split] = Split(split, source, self.spec.labels or source.labels)
        return self._splits[split]

    def has_labels(self, split: str) -> bool:
        """Whether the samples of `split` carry labels."""
        return self.dataset(split).has_labels

    def prepare(self, sample: Sample) -> Prepared:
        """Runs the pre-processing on one sample.

        Raises:
            DataError: It does not fit; the message names the sample.
        """
        try:
            return self.preprocess(sample.value)
        except EdgewrightError as error:
            raise type(error)(f"sample {sample.id}: {error.message}", hint=error.hint) from error

    def batches(self, split: str, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Yields samples, each prepared, and their tensors stacked along a leading batch axis.

        Args:
            split: Its name.
            size: Samples per batch; the last batch may be smaller.
            limit: Most samples in all; None for the whole split.

        Raises:
            DataError: A sample does not fit the model, or the samples of a batch differ in shape.
        """
        samples: list[Sample] = []
        prepared: list[Prepared] = []
        for index, sample in enumerate(self.dataset(split)):
            if limit is not None and index >= limit:
                break
            samples.append(sample)
            prepared.append(self.prepare(sample))
            if len(samples) == size:
                yield samples, prepared, _stacked(samples, prepared)
                samples, prepared = [], []
        if samples:
            yield samples, prepared, _stacked(samples, prepared)


def open_data(path: Path, inputs: Sequence[TensorSpec] = ()) -> Data:
    """Opens a `data.json`.

    Args:
        path: The file.
        inputs: The inputs of the model that takes the samples, with their batch axis; instead of those in the file.
            With neither, an array that belongs to the model's only input goes by the name "".

    Raises:
        Corrupt: The file cannot be read.
        ConfigError: An operation or reader in it is unknown or malformed.
    """
    try:
        spec = decode_stored(DataSpec, path.read_bytes())
    except (OSError, ValueError) as error:
        raise Corrupt(f"cannot read {path}: {error}", hint="run the project again; it writes this file") from error
    if spec.schema > SCHEMA:
        message = f"{path} has layout {spec.schema}, this version of Edgewright reads up to {SCHEMA}"
        raise Corrupt(message, hint="install a newer Edgewright")
    return open_spec(replace(spec, inputs=tuple(inputs)) if inputs else spec)


def open_spec(spec: DataSpec) -> Data:
    """Opens data from their spec.

    Raises:
        ConfigError: An operation in it is unknown or malformed.
    """
    return Data(spec)


def save_spec(spec: DataSpec, path: Path) -> None:
    """Writes a `data.json`."""
    path.write_bytes(encode_json(spec))


def _stacked(samples: Sequence[Sample], prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    stacked: dict[str, NDArray[Any]] = {}
    for name, first in prepared[0].tensors.items():
        for sample, other in zip(samples, prepared, strict=True):
            if other.tensors[name].shape != first.shape:
                raise DataError(
                    f"samples {samples[0].id} and {sample.id} give {list(first.shape)} and "
                    f"{list(other.tensors[name].shape)}, which do not fit into one batch",
                    hint="fix the length (tokenise length, window, resize), or use a batch of 1",
                )
        stacked[name] = np.stack([one.tensors[name] for one in prepared])
    return stacked
