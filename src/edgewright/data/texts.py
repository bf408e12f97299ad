"""Reader `text`: rows of a CSV or TSV file, or lines of a text file."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from edgewright.core.data import Sample
from edgewright.data.source import Indices, Source, class_index, existing, positions
from edgewright.errors import DataError
from edgewright.pipeline.spec import resolved


@dataclass(frozen=True, slots=True)
class Text:
    """Texts with or without a class each; only their positions in the file are held in memory.

    Attributes:
        path: `.csv` or `.tsv` with a header line, or any other file with one text per line.
        value: Column of the text.
        label: Column of the class, by name (see the project's labels) or index; empty for none.
        rows: Slices such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing.
    """

    reader: ClassVar[str] = "text"
    path: str
    value: str = "text"
    label: str = "label"
    rows: str = ""
    shuffle: int | None = None

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        path = existing(resolved(root, self.path), self.path)
        table = _Table(path, {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower(), ""))
        for column in (self.value, self.label):
            if table.delimiter and column and column not in table.header:
                hint = f'its columns are {", ".join(table.header)}; set value and label (label = "" for none)'
                raise DataError(f"{path} has no column {column!r}", hint=hint)
        chosen = positions(len(table.starts), self.rows, self.shuffle, str(path))
        return _TextSource(self, table, chosen, labels, bool(table.delimiter and self.label))

    def files(self, root: Path) -> Iterator[Path]:
        yield resolved(root, self.path)


class _Table:
    """Finds where every record of a file begins, so that any can be read without the others."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self.path, self.delimiter = path, delimiter
        self.header: list[str] = []
        starts = array("q")
        try:
            with path.open("rb") as file:
                lines = _Lines(file)
                records = self.records(lines)
                if delimiter:
                    self.header = next(records, [])
                begin = lines.at
                for record in records:
                    if any(field.strip() for field in record):
                        starts.append(begin)
                    begin = lines.at
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {path}: {error}", hint="save it as UTF-8 text") from error
        self.starts = np.asarray(starts, np.int64)

    def records(self, lines: Iterator[str]) -> Iterator[list[str]]:
        if self.delimiter:
            return csv.reader(lines, delimiter=self.delimiter)
        return ([line.rstrip("\r\n")] for line in lines)

    def read(self, file: IO[bytes], row: int) -> list[str]:
        file.seek(int(self.starts[row]))
        return next(self.records(_Lines(file)))


class _Lines:
    """Decoded lines of a file opened for bytes; `at` is where the next one begins."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.at = file.tell()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline()
        if not line:
            raise StopIteration
        text = line.decode("utf-8-sig" if self.at == 0 else "utf-8")
        self.at += len(line)
        return text


@dataclass(frozen=True, eq=False)
class _TextSource:
    reader: Text
    table: _Table
    chosen: Indices
    names: tuple[str, ...]
    has_labels: bool
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        with self.table.path.open("rb") as file:
            for row in self.chosen.tolist():
                yield self._sample(row, self.table.read(file, row))

    def thinned(self, step: int) -> _TextSource:
        return replace(self, chosen=self.chosen[::step])

    def _sample(self, row: int, fields: list[str]) -> Sample:
        where = f"{self.table.path}, row {row}"
        if not self.table.delimiter:
            return Sample(str(row), fields[0])
        if len(fields) != len(self.table.header):
            message = f"{where} has {len(fields)} fields, the header has {len(self.table.header)}"
            raise DataError(message, hint="put texts that hold the separator into double quotes")
        named = dict(zip(self.table.header, fields, strict=True))
        label = class_index(named[self.reader.label], self.names, where) if self.has_labels else None
        return Sample(str(row), named[self.reader.value], label)

    def origin(self) -> dict[str, Indices]:
        return {str(self.table.path.resolve()): self.chosen}
