"""Tensors and models as values."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.digest import Digest


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor.

    Attributes:
        name: The graph's own name.
        dtype: NumPy's name: `float32`, `int64`, `uint8`...
        shape: One entry per axis; a string names a dynamic axis.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class Model:
    """A model in the hub format: ONNX on disk plus an optional `plan.json`."""

    digest: Digest
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
