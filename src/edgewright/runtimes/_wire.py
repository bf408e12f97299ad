r"""Messages with tensors over a pair of byte streams: one line of JSON, then the tensors' bytes.

```
{"do": "run", "tensors": [{"name": "x", "dtype": "float32", "shape": [1, 3]}]}\n
<12 bytes: little-endian, row after row>
```

Nothing in a message is executed when it is read, and everything that would reserve memory is bounded first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import Corrupt, DataError

HEADER_BYTES = 16 << 20
"""Longest line of JSON."""
TENSOR_BYTES = 2 << 30
"""Most bytes of tensors in one message."""
_TENSORS, _RANK = 4096, 32
_KINDS = "biufc"

Tensors = Mapping[str, NDArray[Any]]


def pack(header: Mapping[str, Any], tensors: Tensors | None = None) -> list[bytes | memoryview]:
    """Returns the pieces of a message, to be written one after the other; arrays are not copied where they need not be.

    Raises:
        DataError: A tensor holds something else than numbers.
    """
    if tensors is None:
        return [json.dumps(header).encode() + b"\n"]
    arrays = {name: _little(name, array) for name, array in tensors.items()}
    described = [{"name": n, "dtype": a.dtype.name, "shape": list(a.shape)} for n, a in arrays.items()]
    line = json.dumps({**header, "tensors": described}).encode() + b"\n"
    return [line, *(a.reshape(-1).view(np.uint8).data for a in arrays.values() if a.size)]


def _little(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in _KINDS:
        raise DataError(
            f'tensor "{name}" holds {array.dtype}: only numbers travel to another process',
            hint="convert it to numbers in [[preprocess]], or run the artifact in this environment",
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def parse(line: bytes) -> dict[str, Any]:
    """Reads the line of JSON.

    Raises:
        Corrupt: It is none, or ends in the middle.
    """
    try:
        message = json.loads(line)
    except ValueError as error:
        raise _broken(f"not a line of JSON ({error}): {line[:80]!r}") from error
    if not line.endswith(b"\n") or not isinstance(message, dict):
        raise _broken(f"not a whole message: {line[:80]!r}")
    return message


def unpack(message: Mapping[str, Any], read: Callable[[int], bytes | bytearray]) -> dict[str, NDArray[Any]]:
    """Reads the tensors that belong to a message.

    Args:
        message: As `parse` gave it.
        read: Gives exactly so many bytes.

    Raises:
        Corrupt: They are not described as `pack` does it, or are too large.
    """
    wanted = [_described(entry) for entry in _entries(message)]
    sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in wanted]
    if sum(sizes) > TENSOR_BYTES:
        raise _broken(f"tensors of {sum(sizes)} bytes, at most {TENSOR_BYTES} are taken")
    return {
        name: (np.frombuffer(read(size), dtype) if size else np.empty(0, dtype)).reshape(shape)
        for (name, dtype, shape), size in zip(wanted, sizes, strict=True)
    }


def _entries(message: Mapping[str, Any]) -> Sequence[Any]:
    entries = message.get("tensors", [])
    if not isinstance(entries, list) or len(entries) > _TENSORS:
        raise _broken("its tensors are no list, or too many")
    return entries


def _described(entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    try:
        name, dtype, shape = str(entry["name"]), np.dtype(str(entry["dtype"])), tuple(entry["shape"])
    except (TypeError, KeyError, ValueError) as error:
        raise _broken(f"a tensor is not described: {entry!r}"[:200]) from error
    sound = all(type(size) is int and 0 <= size <= TENSOR_BYTES for size in shape)
    if dtype.kind not in _KINDS or len(shape) > _RANK or not sound:
        raise _broken(f"a tensor cannot be read: {entry!r}"[:200])
    return name, dtype.newbyteorder("<"), shape


def _broken(what: str) -> Corrupt:
    return Corrupt(
        f"message between two processes: {what}",
        hint="both sides need the same version of Edgewright, and nothing else may write to their standard output",
    )
