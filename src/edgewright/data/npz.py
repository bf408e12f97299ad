"""Reader `npz`: arrays in a NumPy archive, one sample per row."""

from __future__ import annotations

import math
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgewright.core.data import Sample
from edgewright.data.source import Indices, Source, existing, positions
from edgewright.errors import DataError
from edgewright.pipeline.spec import resolved

IN_MEMORY_BYTES = 64 * 2**20
"""Compressed arrays up to this size are held in memory; larger ones are unpacked into a temporary file and mapped."""


@dataclass(frozen=True, slots=True)
class Npz:
    """Rows of arrays in an `.npz` archive.

    Stored (uncompressed) arrays are mapped into memory and never read as a whole; large compressed ones are
    unpacked once, to a temporary file.

    Attributes:
        path: The archive.
        value: Key of the values, [samples, ...]; or several keys, which gives mappings from key to value.
        label: Key of the labels, [samples, ...]; empty for none.
        ids: Key of the sample names; empty for row numbers.
        rows: Slices such as `0:100`; empty for all.
        shuffle: Seed of a permutation before slicing.
    """

    reader: ClassVar[str] = "npz"
    path: str
    value: str | tuple[str, ...] = "x"
    label: str = "y"
    ids: str = ""
    rows: str = ""
    shuffle: int | None = None

    def open(self, root: Path, labels: tuple[str, ...]) -> Source:
        path = existing(resolved(root, self.path), self.path)
        names = (self.value,) if isinstance(self.value, str) else self.value
        arrays = open_arrays(path, [name for name in (*names, self.label, self.ids) if name])
        count = len(arrays[names[0]])
        for name, array in arrays.items():
            if len(array) != count:
                message = f"{path}: {name} has {len(array)} rows, {names[0]} has {count}"
                raise DataError(message, hint="save one row per sample in every array")
        chosen = positions(count, self.rows, self.shuffle, str(path))
        return _NpzSource(self, path, arrays, chosen, bool(self.label))

    def files(self, root: Path) -> Iterator[Path]:
        yield resolved(root, self.path)


@dataclass(frozen=True, eq=False)
class _NpzSource:
    reader: Npz
    path: Path
    arrays: Mapping[str, NDArray[Any]]
    chosen: Indices
    has_labels: bool
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Sample]:
        for row in self.chosen.tolist():
            yield Sample(self._id(row), self._value(row), self._label(row))

    def thinned(self, step: int) -> _NpzSource:
        return replace(self, chosen=self.chosen[::step])

    def _id(self, row: int) -> str:
        return str(self.arrays[self.reader.ids][row]) if self.reader.ids else str(row)

    def _value(self, row: int) -> Any:
        if isinstance(self.reader.value, str):
            return _entry(self.arrays[self.reader.value], row)
        return {name: _entry(self.arrays[name], row) for name in self.reader.value}

    def _label(self, row: int) -> Any:
        if not self.has_labels:
            return None
        label = _entry(self.arrays[self.reader.label], row)
        return label.item() if isinstance(label, np.ndarray) and label.size == 1 else label

    def origin(self) -> dict[str, Indices]:
        return {str(self.path.resolve()): self.chosen}


def _entry(array: NDArray[Any], row: int) -> Any:
    entry = array[row]
    return str(entry) if array.dtype.kind == "U" and array.ndim == 1 else np.array(entry)


def open_arrays(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    """Opens arrays of an archive without reading more than needed.

    Raises:
        DataError: It is no archive, a key is missing, or an array holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            known = [name.removesuffix(".npy") for name in archive.namelist()]
            missing = [name for name in names if name not in known]
            if missing:
                hint = f"its keys are {', '.join(known)}; set value, label or ids to one of them"
                raise DataError(f"{path} has no array {missing[0]!r}", hint=hint)
            return {name: _open_array(archive, path, name) for name in names}
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", hint="save it again with numpy.savez") from error


def _open_array(archive: zipfile.ZipFile, path: Path, name: str) -> NDArray[Any]:
    info = archive.getinfo(name + ".npy" if name + ".npy" in archive.namelist() else name)
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        order: Any = "F" if fortran else "C"
        if dtype.hasobject:
            raise DataError(f"{path}: {name} holds Python objects", hint="save it as an array of numbers or strings")
        if not shape:
            raise DataError(f"{path}: {name} is a single number", hint="save one row per sample")
        start = member.tell()
        if math.prod(shape) * dtype.itemsize != info.file_size - start:
            raise ValueError(f"{name} does not hold the {list(shape)} values it declares")
        if info.compress_type == zipfile.ZIP_STORED:
            return np.memmap(path, dtype, "r", _offset(path, info) + start, shape, order)
        if info.file_size <= IN_MEMORY_BYTES:
            return np.frombuffer(member.read(), dtype).reshape(shape, order=order)
        with tempfile.TemporaryFile() as spilled:
            shutil.copyfileobj(member, spilled, 2**20)
            spilled.flush()
            return np.memmap(spilled, dtype, "r", 0, shape, order)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    major = npy.read_magic(member)[0]
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Returns where a member's bytes begin: after its local header, whose name and extra field vary in length."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
    return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
