"""Reads `weight.bin`, the file of an ML program's large constants, without coremltools.

Source: MIL blob storage version 2 (apple/coremltools, mlmodel/src/MILBlob/Blob/StorageFormat.hpp): a header of 64
bytes, then per constant a record of 64 bytes (sentinel, type, size and place of its bytes), each aligned to 64.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import Corrupt

_SENTINEL, _VERSION, _RECORD = 0xDEADBEEF, 2, 64
_TYPES: dict[int, tuple[str, int]] = {
    1: ("float16", 16),
    2: ("float32", 32),
    3: ("uint8", 8),
    4: ("int8", 8),
    6: ("int16", 16),
    7: ("uint16", 16),
    8: ("int8", 4),
    9: ("uint8", 1),
    10: ("uint8", 2),
    11: ("uint8", 4),
    12: ("uint8", 3),
    13: ("uint8", 6),
    14: ("int32", 32),
    15: ("uint32", 32),
}
"""Number of a type -> NumPy's type to read it into, and its bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """One constant of the file.

    Attributes:
        values: One dimension, one element per value; fewer than 8 bits are unpacked.
        bits: Per value, as stored.
        size: Bytes it takes, without alignment.
    """

    values: NDArray[Any]
    bits: int
    size: int


class Blob:
    """The opened file.

    Raises:
        Corrupt: It is no such file.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content = file.read_bytes()
        _, version = self._unpack("<II", 0)
        if version != _VERSION:
            raise self._corrupt(f"version {version}, expected {_VERSION}")

    def read(self, offset: int) -> Stored:
        """Returns the constant whose record starts at byte `offset`.

        Raises:
            Corrupt: There is none, or it leaves the file.
        """
        sentinel, number, size, start, padding = self._unpack("<IIQQQ", offset)
        if sentinel != _SENTINEL or number not in _TYPES:
            raise self._corrupt(f"no constant at byte {offset}")
        if start + size > len(self._content):
            raise self._corrupt(f"the constant at byte {offset} leaves the file")
        dtype, bits = _TYPES[number]
        raw = np.frombuffer(self._content, np.uint8, size, start)
        if bits >= 8:
            return Stored(raw.view(dtype), bits, size)
        return Stored(unpacked(raw, bits, (size * 8 - padding) // bits).astype(dtype), bits, size)

    def _unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        if offset + _RECORD > len(self._content):
            raise self._corrupt(f"ends before byte {offset + _RECORD}")
        return struct.unpack_from(layout, self._content, offset)

    def _corrupt(self, what: str) -> Corrupt:
        return Corrupt(f"{self._file}: not a file of weights: {what}", hint="compile the model again")


def unpacked(raw: NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Returns `count` unsigned numbers of `bits` bits, the lowest bits of each byte first."""
    single = np.unpackbits(raw, bitorder="little")[: count * bits].reshape(count, bits)
    return np.asarray(single @ (1 << np.arange(bits)), np.uint8)
