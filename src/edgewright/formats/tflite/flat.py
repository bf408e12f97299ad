"""FlatBuffers, read with every offset checked: a damaged or hostile file is an error, never a wild read.

Source: https://flatbuffers.dev/internals/ (tables, vtables, vectors, strings).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import Corrupt


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the buffer.

    Attributes:
        data: The whole file.
        start: Byte position of the table.
    """

    data: bytes
    start: int

    def scalar(self, field: int, kind: str, default: float = 0) -> Any:
        """Returns a number, or `default` where the field is absent.

        Args:
            field: Index in the schema.
            kind: `struct` letter, e.g. `b`, `i`, `f`, `?`.
            default: The schema's default.

        Raises:
            Corrupt: The field lies outside the file.
        """
        at = self._slot(field)
        return default if at is None else _unpack(self.data, kind, at)

    def text(self, field: int) -> str:
        """Returns a string, empty where the field is absent."""
        start, length = self._vector(field, 1)
        return self.data[start : start + length].decode("utf-8", "replace")

    def table(self, field: int) -> Table | None:
        """Returns a nested table, None where the field is absent."""
        at = self._slot(field)
        return None if at is None else _follow(self.data, at)

    def tables(self, field: int) -> tuple[Table, ...]:
        """Returns a vector of tables, empty where the field is absent."""
        start, length = self._vector(field, 4)
        return tuple(_follow(self.data, start + 4 * index) for index in range(length))

    def array(self, field: int, dtype: str) -> NDArray[Any] | None:
        """Returns a vector of numbers, None where the field is absent."""
        if self._slot(field) is None:
            return None
        kind = np.dtype(dtype).newbyteorder("<")
        start, length = self._vector(field, kind.itemsize)
        return np.frombuffer(self.data, kind, length, start)

    def _slot(self, field: int) -> int | None:
        vtable = self.start - _unpack(self.data, "i", self.start)
        size = _unpack(self.data, "H", vtable)
        entry = 4 + 2 * field
        if entry + 2 > size:
            return None
        offset = _unpack(self.data, "H", vtable + entry)
        return self.start + offset if offset else None

    def _vector(self, field: int, itemsize: int) -> tuple[int, int]:
        at = self._slot(field)
        if at is None:
            return 0, 0
        start = at + _unpack(self.data, "I", at)
        length = _unpack(self.data, "I", start)
        if start + 4 + length * itemsize > len(self.data):
            raise damaged(f"a vector of {length} entries at byte {start}")
        return start + 4, length


def root(data: bytes, identifier: bytes) -> Table:
    """Returns the root table of a buffer.

    Args:
        data: The whole file.
        identifier: The four bytes its format is known by.

    Raises:
        Corrupt: It is another format, or cut off.
    """
    if len(data) < 8 or data[4:8] != identifier:
        raise Corrupt(
            f"not a {identifier.decode()} file: bytes 4 to 8 are {data[4:8]!r}, {identifier!r} expected",
            hint="check that the path names the model, and download or convert it again",
        )
    return _follow(data, 0)


def damaged(what: str) -> Corrupt:
    """Returns the error for something that reaches outside the file."""
    return Corrupt(f"damaged file: {what} reaches outside it", hint="the file is truncated; copy or convert it again")


def _follow(data: bytes, at: int) -> Table:
    start = at + _unpack(data, "I", at)
    if start + 4 > len(data):
        raise damaged(f"a table at byte {start}")
    return Table(data, start)


def _unpack(data: bytes, kind: str, at: int) -> Any:
    if at < 0 or at + struct.calcsize(f"<{kind}") > len(data):
        raise damaged(f"a value at byte {at}")
    return struct.unpack_from(f"<{kind}", data, at)[0]
