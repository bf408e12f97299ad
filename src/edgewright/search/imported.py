"""What a source step reports about its import: `import.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgewright.core.codec import encode
from edgewright.core.tensors import TensorSpec

KINDS = {
    ".onnx": "onnx", ".tflite": "tflite", ".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".pt2": "torch-export"
}  # fmt: skip
"""Suffix of a file -> the source that imports it."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The import, compared with its source.

    Attributes:
        kind: `onnx`, `torch`, `tflite`, `keras` or `saved-model`.
        opset: Of the hub model.
        inputs: Of the hub model.
        outputs: Of the hub model.
        compared_samples: How many samples the comparison used.
        largest_difference: Largest absolute difference of any output value.
        snr_db: Signal-to-noise ratio in decibels; None when the difference is zero.
        compared_with: What it was compared with, and on which data.
    """

    kind: str
    opset: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    compared_samples: int
    largest_difference: float
    snr_db: float | None = None
    compared_with: str = ""

    def summary(self) -> dict[str, Any]:
        """Returns what the study keeps of it, without the tensors it has anyway."""
        return {key: value for key, value in encode(self).items() if key not in ("inputs", "outputs")}
