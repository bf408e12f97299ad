"""From the tensors that a model declares to those that its .tflite file takes and gives, and back.

A file may take a transposed or a quantised form of a declared tensor. What it takes stands in the artifact's session
under `IO_KEY`, as JSON: {"inputs": {name: {"perm": [0, 2, 3, 1], "dtype": "int8", "scale": 0.02, "zero_point": -1}},
"outputs": {...}}; tensors without an entry are the declared ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored, encode_json
from edgewright.errors import Corrupt

IO_KEY = "edgewright.io"


@dataclass(frozen=True, slots=True)
class Border:
    """How a tensor of the file stands to the declared one.

    Attributes:
        perm: Axes of the declared tensor in the order of the file's; empty for the same order.
        dtype: NumPy's name of the file's type; empty for the declared one.
        scale: Of the file's integers: real = scale x (integer - zero point); 0 where they are not quantised.
        zero_point: Of the file's integers.
    """

    perm: tuple[int, ...] = ()
    dtype: str = ""
    scale: float = 0.0
    zero_point: int = 0

    def write(self, declared: NDArray[Any], into: NDArray[Any]) -> None:
        """Stores a declared array in the file's tensor, in one pass where nothing is quantised.

        Quantised as ONNX's QuantizeLinear does it: divided in float32, rounded half to even, saturated.

        Args:
            declared: As the model declares it.
            into: The file's tensor.
        """
        moved = declared.transpose(self.perm) if self.perm else declared
        if self.scale:
            moved = self._integers(moved, into.dtype)
        np.copyto(into, moved, casting="unsafe")

    def read(self, stored: NDArray[Any], dtype: str) -> NDArray[Any]:
        """Returns the declared form of what the file gave, C-contiguous.

        Args:
            stored: The file's tensor; it may be returned itself.
            dtype: The declared type.
        """
        if self.scale:
            stored = (stored.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)
        if self.perm:
            stored = stored.transpose(np.argsort(self.perm))
        return np.ascontiguousarray(stored, dtype).reshape(stored.shape)

    def _integers(self, real: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        limits = np.iinfo(dtype)
        found: NDArray[Any] = np.divide(real, np.float32(self.scale), dtype=np.float32)
        np.rint(found, out=found)
        found += self.zero_point
        np.clip(found, limits.min, limits.max, out=found)
        return found


SAME = Border()


@dataclass(frozen=True, slots=True)
class Borders:
    """Those of a whole file, by declared name; tensors without one are the declared ones."""

    inputs: Mapping[str, Border] = field(default_factory=dict)
    outputs: Mapping[str, Border] = field(default_factory=dict)


def entries(borders: Borders) -> dict[str, str]:
    """Returns what to add to the session of an artifact."""
    changed = borders.inputs or borders.outputs
    return {IO_KEY: " ".join(encode_json(borders).decode().split())} if changed else {}


def read_borders(session: Mapping[str, str], where: str) -> Borders:
    """Reads the borders that stand in the session of an artifact.

    Raises:
        Corrupt: They are malformed.
    """
    try:
        return decode_stored(Borders, session.get(IO_KEY, "{}").encode())
    except ValueError as error:
        raise Corrupt(f"{where}: {IO_KEY} of the session: {error}", hint="compile the model again") from error
