"""Sizes of C structs on a machine with wide or narrow pointers, from a list of their fields."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FIELD = re.compile(r"(\d*)([a-z])")
_WIDTHS = {"b": 1, "h": 2, "i": 4, "f": 4, "d": 8, "c": 4}
"""bool and int8, int16, int32, float, double; `c` is an int that only builds with tensor compression have."""


@dataclass(frozen=True, slots=True)
class Build:
    """How TensorFlow Lite Micro was built.

    Attributes:
        pointer: Bytes of a pointer: 4 on a microcontroller, 8 on a 64-bit host.
        compression: Whether tensor compression is built in (`USE_TFLM_COMPRESSION`).
        recording: Whether the allocator keeps records, as in the Python package.
    """

    pointer: int = 4
    compression: bool = False
    recording: bool = False


HOST = Build(pointer=8, compression=True, recording=True)
"""The Python package on a 64-bit machine: what is measured here."""
BOARD = Build()
"""An ordinary build for a 32-bit microcontroller: what a board needs."""


def size_of(fields: str, build: Build) -> int:
    """Returns the size of a struct in bytes, padded as C pads it.

    Args:
        fields: Letters with counts, e.g. `9i 2p b`: b 1 byte, h 2, i and f 4, d 8, p a pointer or size_t, c an int of
            compressed builds.
        build: Decides about `p` and `c`.
    """
    at, widest = 0, 1
    for count, width in _fields(fields, build):
        widest = max(widest, width)
        at = up(at, width) + width * count
    return up(at, widest)


def alignment_of(fields: str, build: Build) -> int:
    """Returns the alignment of a struct in bytes."""
    return max((width for _, width in _fields(fields, build)), default=1)


def _fields(fields: str, build: Build) -> list[tuple[int, int]]:
    found = [(int(count or 1), kind) for count, kind in _FIELD.findall(fields)]
    return [(n, build.pointer if k == "p" else _WIDTHS[k]) for n, k in found if k != "c" or build.compression]


def up(number: int, multiple: int) -> int:
    """Returns `number` rounded up to a multiple."""
    return -(-number // multiple) * multiple
