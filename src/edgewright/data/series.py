"""Reader `csv-windows`: windows cut out of series of numbers."""

from __future__ import annotations

import csv
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Sample
from edgewright.data.source import Indices, Source, class_index, existing, positions
from edgewright.errors import DataError
from edgewright.pipeline.spec import resolved


@dataclass(frozen=True, slots=True)
class CsvWindows:
    """Windows of float32 [window, columns] from one CSV file with a header line, or from each file of a folder.

    A window never spans two files. The numbers are unpacked once into a temporary file, so the series may be larger
    than memory.

    Attributes:
        path: A `.csv` file, or a folder of them.
        values: Columns of the numbers, in the model's order.
        window: Rows per sample.
        hop: Rows from one window to the next; 0 for `window` (no overlap).
        label: Column of the class, by name or index; empty for none.
        label_at: Which row's class counts: `last`, or the `majority`.
        rows: Slices of windows such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing; only for windows that do not overlap.
    """

    reader: ClassVar[str] = "csv-windows"
    path: str
    values: tuple[str, ...]
    window: int
    hop: int = 0
    label: str = ""
    label_at: Literal["last", "majority"] = "last"
    rows: str = ""
    shuffle: int | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or self.hop < 0 or not self.values:
            raise ValueError("window is at least 1, hop at least 0, and values names at least one column")
        if self.shuffle is not None and 0 < self.hop < self.window:
            raise ValueError("shuffled windows that overlap would leak from one split into another; leave out shuffle")

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        base = existing(resolved(root, self.path), self.path)
        paths = list(self.files(root))
        if not paths:
            raise DataError(f"{base} holds no .csv files", hint="correct `path`")
        return _series(self, base, [_unpack(path, self, labels) for path in paths])

    def files(self, root: Path) -> Iterator[Path]:
        path = resolved(root, self.path)
        yield from sorted(path.rglob("*.csv")) if path.is_dir() else [path]


@dataclass(frozen=True, eq=False)
class _Series:
    path: Path
    values: NDArray[np.float32]
    classes: NDArray[np.int32] | None


@dataclass(frozen=True, eq=False)
class _SeriesSource:
    reader: CsvWindows
    series: Sequence[_Series]
    ids: Sequence[str]
    owners: Indices
    starts: Indices
    has_labels: bool
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[Sample]:
        for owner, start in zip(self.owners.tolist(), self.starts.tolist(), strict=True):
            one = self.series[owner]
            value = np.array(one.values[start : start + self.reader.window])
            yield Sample(f"{self.ids[owner]}:{start}", value, self._label(one, start))

    def thinned(self, step: int) -> _SeriesSource:
        return replace(self, owners=self.owners[::step], starts=self.starts[::step])

    def _label(self, one: _Series, start: int) -> int | None:
        if one.classes is None:
            return None
        classes = one.classes[start : start + self.reader.window]
        return int(classes[-1]) if self.reader.label_at == "last" else _most_frequent(classes)

    def origin(self) -> Mapping[str, Indices]:
        reach = np.arange(self.reader.window)
        found: dict[str, Indices] = {}
        for owner in np.unique(self.owners).tolist():
            rows = np.unique(self.starts[self.owners == owner][:, None] + reach)
            found[str(self.series[owner].path.resolve())] = rows
        return found


def _most_frequent(classes: NDArray[Any]) -> int:
    values, counts = np.unique(classes, return_counts=True)
    return int(values[counts.argmax()])


def _series(reader: CsvWindows, base: Path, series: Sequence[_Series]) -> Source:
    hop = reader.hop or reader.window
    starts = [np.arange(0, len(one.values) - reader.window + 1, hop) for one in series]
    owners = np.concatenate([np.full(len(s), i) for i, s in enumerate(starts)])
    chosen = positions(len(owners), reader.rows, reader.shuffle, str(base))
    ids = [one.path.relative_to(base).as_posix() if base.is_dir() else one.path.name for one in series]
    return _SeriesSource(reader, series, ids, owners[chosen], np.concatenate(starts)[chosen], bool(reader.label))


def _unpack(path: Path, reader: CsvWindows, labels: tuple[str, ...]) -> _Series:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            records = csv.reader(file)
            columns = _columns(path, next(records, []), reader)
            return _numbers(path, records, columns, reader, labels)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", hint="save it as UTF-8 CSV") from error


def _columns(path: Path, header: Sequence[str], reader: CsvWindows) -> list[int]:
    names = [name.strip() for name in header]
    missing = [name for name in (*reader.values, reader.label) if name and name not in names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}", hint=f"its columns are {', '.join(names)}")
    return [names.index(name) for name in (*reader.values, reader.label) if name]


def _numbers(path: Path, records: Any, columns: Sequence[int], reader: CsvWindows, labels: tuple[str, ...]) -> _Series:
    classes = array("i")
    width, count = len(reader.values), 0
    with tempfile.TemporaryFile() as unpacked:
        for record in filter(None, records):
            where = f"{path}, line {records.line_num}"
            unpacked.write(_row(record, columns[:width], where).tobytes())
            count += 1
            if reader.label:
                classes.append(class_index(_field(record, columns[width], where), labels, where))
        if not count:
            raise DataError(f"{path} holds no rows", hint="remove the file, or record the series again")
        unpacked.flush()
        values = np.memmap(unpacked, np.float32, "r", 0, (count, width))
    return _Series(path, values, np.asarray(classes, np.int32) if reader.label else None)


def _row(record: Sequence[str], columns: Sequence[int], where: str) -> NDArray[np.float32]:
    try:
        row = np.asarray([float(_field(record, column, where)) for column in columns], np.float32)
    except ValueError as error:
        message = f"{where}: {error}"
        raise DataError(message, hint="give numbers with a decimal point in every value column") from error
    if not np.isfinite(row).all():
        raise DataError(f"{where}: {row.tolist()} is not finite", hint="fill or remove the gaps in the series")
    return row


def _field(record: Sequence[str], column: int, where: str) -> str:
    if column >= len(record):
        raise DataError(f"{where} has {len(record)} fields", hint="give every line as many fields as the header")
    return record[column]
