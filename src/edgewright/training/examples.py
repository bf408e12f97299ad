"""The samples that training sees: prepared once, kept in memory-mapped files, so that they may exceed memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgewright.core.data import JUDGING_SPLITS
from edgewright.core.tensors import TensorSpec
from edgewright.data import Data, open_data
from edgewright.data.labels import IGNORE
from edgewright.errors import ConfigError, DataError
from edgewright.store.files import full_disk_explained

NO_LABEL = -1
"""The class index of a sample without a label, and of a pixel that does not count."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """All samples of one or more splits, ready for a model.

    Attributes:
        inputs: One tensor per input of the model, in its order; the first axis counts samples.
        labels: Class indices [samples] (int64, `NO_LABEL` where there is none), or what else is a number or an array
            of one shape for every sample; None where labels are something else.
        raw_labels: As the reader gave them.
        geometry: What the pre-processing noted about each sample, such as the scale of a resized image.
        root: The project's folder.
        classes: Class names; may be empty.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    raw_labels: Sequence[Any]
    geometry: Sequence[Mapping[str, Any]]
    root: Path
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs[0])

    def subset(self, rows: Tensor) -> Examples:
        """Returns copies of the samples at `rows`."""
        return Examples(
            tuple(tensor[rows] for tensor in self.inputs),
            None if self.labels is None else self.labels[rows],
            [self.raw_labels[row] for row in rows.tolist()],
            [self.geometry[row] for row in rows.tolist()],
            self.root,
            self.classes,
        )

    @property
    def labelled(self) -> bool:
        """Whether any sample has a label."""
        return any(label is not None for label in self.raw_labels)


def split_of(data: Path, split: str) -> str:
    """Returns the split that a training pass learns from: the one named, else `train`, else `calibration`.

    Raises:
        ConfigError: There is no such split.
    """
    known = open_data(data).splits
    chosen = split or ("train" if "train" in known else "calibration")
    if chosen not in known:
        hint = f"add [data.{chosen}], or set split to one of {', '.join(known)}"
        raise ConfigError(f'there is no split "{chosen}" to train on', hint=hint)
    if chosen in JUDGING_SPLITS:
        hint = "add [data.train]; what a candidate is judged by must not be trained on"
        raise ConfigError(f'split = "{chosen}": its samples judge the result', hint=hint)
    return chosen


def load_examples(
    data: Path,
    tensors: tuple[TensorSpec, ...],
    splits: Sequence[str],
    limit: int | None,
    scratch: Path,
    progress: Progress | None = None,
) -> Examples:
    """Prepares the samples of `splits` for a model.

    Args:
        data: The `data.json`.
        tensors: The model's inputs, with their batch axis.
        splits: In order.
        limit: Most samples of each split, spread evenly over it; None for all.
        scratch: Folder for the prepared samples.
        progress: Told of the share done, 0 to 1.

    Raises:
        ConfigError: There is no such split.
        DataError: A sample does not fit the model or another sample, a value is not finite, or there are none.
        OutOfSpace: The disk cannot hold them.
    """
    opened = open_data(data, tensors)
    counts = [min(len(opened.dataset(split)), limit or len(opened.dataset(split))) for split in splits]
    total, note = sum(counts), progress or (lambda fraction, text: None)
    if not total:
        raise DataError(f"no samples in {', '.join(splits)}", hint="give [data.train] samples")
    scratch.mkdir(parents=True, exist_ok=True)
    files = _Files(tuple(tensor.name for tensor in tensors), total, scratch)
    labels: list[Any] = []
    geometry: list[Mapping[str, Any]] = []
    for split, count in zip(splits, counts, strict=True):
        for id, arrays, label, noted in _samples(opened, split, count):
            files.put(len(labels), id, arrays)
            labels.append(label)
            geometry.append(noted)
            if len(labels) % 500 == 0:
                note(len(labels) / total, f"preparing samples, {len(labels)} of {total}")
    return Examples(files.tensors(), _tensor(labels), labels, geometry, opened.root, opened.labels)


def _samples(
    data: Data, split: str, count: int
) -> Iterator[tuple[str, Mapping[str, NDArray[Any]], Any, Mapping[str, Any]]]:
    dataset = data.dataset(split).spread(count)
    chosen = set(np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist())
    for index, sample in enumerate(dataset):
        if index in chosen:
            prepared = data.prepare(sample)
            yield sample.id, prepared.tensors, sample.label, prepared.geometry


class _Files:
    """One array file per input, made when the first sample tells its shape."""

    def __init__(self, names: Sequence[str], count: int, folder: Path) -> None:
        self.names, self.count, self.folder = names, count, folder
        self.arrays: list[NDArray[Any]] = []

    def put(self, row: int, id: str, given: Mapping[str, NDArray[Any]]) -> None:
        """Stores one sample."""
        values = [given[name] for name in self.names]
        if not self.arrays:
            self.arrays = [self._file(i, v) for i, v in enumerate(values)]
        for array, value, name in zip(self.arrays, values, self.names, strict=True):
            if value.shape != array.shape[1:]:
                raise DataError(
                    f"sample {id}: {name} is {list(value.shape)}, the samples before it {list(array.shape[1:])}",
                    hint="training needs one size: fix the length (tokenise length, window, resize)",
                )
            array[row] = value

    def tensors(self) -> tuple[Tensor, ...]:
        """Returns what was stored."""
        return tuple(torch.from_numpy(array) for array in self.arrays)

    def _file(self, index: int, first: NDArray[Any]) -> NDArray[Any]:
        path = self.folder / f"input-{index}.npy"
        array = np.lib.format.open_memmap(path, "w+", first.dtype, (self.count, *first.shape))
        _reserve(path)
        return array


def _reserve(path: Path) -> None:
    """Takes the disk space of a file that is as long as it will be: a mapped write to a full disk ends the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with full_disk_explained(path.parent), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _tensor(labels: Sequence[Any]) -> Tensor | None:
    """Returns labels as one tensor: class indices, numbers, or arrays of one shape; None where they are not."""
    given = [label for label in labels if label is not None]
    if not given:
        return torch.full((len(labels),), NO_LABEL)
    if all(isinstance(label, (int, np.integer)) and not isinstance(label, bool) for label in given):
        return torch.tensor([NO_LABEL if label is None else int(label) for label in labels])
    kinds = {np.asarray(label).dtype.kind for label in given}
    shapes = {np.shape(label) for label in given}
    if len(given) < len(labels) or len(shapes) != 1 or not kinds <= set("fiub"):
        return None
    whole = kinds <= set("iu")
    stacked = np.stack([np.asarray(label, np.int64 if whole else np.float32) for label in labels])
    if whole and stacked.ndim >= 3:
        stacked[stacked == IGNORE] = NO_LABEL
    return torch.from_numpy(stacked)
