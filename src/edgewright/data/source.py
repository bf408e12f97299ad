"""What every reader gives, and which of its rows belong to a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Sample
from edgewright.errors import ConfigError, DataError

Indices = NDArray[np.int64]


class Source(Protocol):
    """An opened reader: a `core.data.Dataset` that also knows where its samples come from."""

    @property
    def has_labels(self) -> bool:
        """Whether samples carry labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names the reader found by itself (folder names); empty otherwise."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def thinned(self, step: int) -> Source:
        """Returns every `step`-th sample, without reading the others."""

    def origin(self) -> Mapping[str, Indices]:
        """Returns file -> rows of it that are used: what "the same data" means. Empty when unknown."""


class Reader(Protocol):
    """The table of a split: a frozen dataclass whose fields are its keys."""

    reader: ClassVar[str]

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        """Opens the data without reading samples.

        Args:
            root: Folder that relative paths are taken from.
            labels: Class names of the project; empty when it has none.

        Raises:
            DataError: Something is missing or malformed.
        """

    def files(self, root: Path) -> Iterator[Path]:
        """Lists the files the data rest on, for the cache key."""


def positions(count: int, rows: str, shuffle: int | None, where: str) -> Indices:
    """Returns the positions of a split among `count` samples.

    Args:
        count: How many there are.
        rows: Python slices separated by commas, such as `0:100`, `::10` or `0:50, 100:150`; empty for all.
        shuffle: Seed of a permutation applied before slicing, the same for equal seeds; None keeps the order.
        where: Named in errors.

    Raises:
        ConfigError: `rows` is malformed.
        DataError: A slice ends beyond the data, or nothing is left.
    """
    order = np.arange(count) if shuffle is None else np.random.RandomState(shuffle).permutation(count)
    parts = [_slice(part, count, where) for part in rows.split(",")] if rows.strip() else [slice(None)]
    chosen = np.concatenate([order[part] for part in parts]).astype(np.int64)
    if not len(chosen):
        hint = "give files that hold samples, or correct rows"
        raise DataError(f"{where}: no samples (rows = {rows!r} of {count})", hint=hint)
    if len(np.unique(chosen)) != len(chosen):
        raise ConfigError(f"{where}: rows = {rows!r} takes some samples twice", hint="give slices that do not overlap")
    return chosen


def _slice(text: str, count: int, where: str) -> slice:
    try:
        numbers = [int(part) if part.strip() else None for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or numbers[2:] == [0]:
        raise ConfigError(f"{where}: rows = {text!r} is no slice", hint='write start:stop or start:stop:step: "0:100"')
    for end in numbers[:2]:
        if end is not None and abs(end) > count:
            message = f"{where}: rows = {text!r} reaches beyond the {count} samples there are"
            raise DataError(message, hint=f"use numbers up to {count}, or leave the end empty")
    return slice(*numbers)


def class_index(name: str, labels: Sequence[str], where: str) -> int:
    """Returns the class a label in a file stands for: a name among `labels`, or an index.

    Raises:
        DataError: It is neither.
    """
    if name in labels:
        return labels.index(name)
    text = name.strip()
    if text.lstrip("-").isdigit():
        return int(text)
    if labels:
        raise DataError(f"{where}: the label {name!r} is not among the {len(labels)} labels", hint=_near(name, labels))
    hint = 'set labels = [...] or labels = "FILE" in the project, in index order'
    raise DataError(f"{where}: the label {name!r} is a name, and the project has no labels", hint=hint)


def _near(name: str, labels: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, labels, n=1)
    return f'did you mean "{near[0]}"?' if near else "add it to labels, or correct the data"


def existing(path: Path, where: str) -> Path:
    """Returns `path`.

    Raises:
        DataError: There is nothing.
    """
    if not path.exists():
        raise DataError(f"{where}: {path} does not exist", hint="correct `path`, or fetch the data")
    return path
