"""How much flash a model needs: its bytes, the code of its kernels and that of the runtime. An estimate.

Kernel code: bytes of each kernel's functions in the package `tflite-micro` (x86-64, float and integer variants
together), times `THUMB`, rounded to half a kilobyte. The runtime: TensorFlow Lite Micro's own figure for a Cortex-M3
(16 KB), and start-up code with a C library. The linker drops variants that one registers by type only, and -Os or
CMSIS-NN change kernels by tens of percent: take it for a figure good to a third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgewright.formats.tflite.reader import TfliteGraph

RUNTIME = 16 << 10
START_UP = 12 << 10
OTHER = 2500
_KERNELS = {
    "CONV_2D": 6500,
    "DEPTHWISE_CONV_2D": 6500,
    "FULLY_CONNECTED": 4500,
    "TRANSPOSE_CONV": 7500,
    "BATCH_MATMUL": 8500,
    "AVERAGE_POOL_2D": 3500,
    "MAX_POOL_2D": 3500,
    "SOFTMAX": 6500,
    "ADD": 8000,
    "SUB": 8000,
    "MUL": 5500,
    "PAD": 5500,
    "PADV2": 5500,
    "CONCATENATION": 3500,
    "STRIDED_SLICE": 9000,
    "SLICE": 5500,
    "MEAN": 6500,
    "SUM": 6500,
    "REDUCE_MAX": 5500,
    "REDUCE_MIN": 5500,
    "QUANTIZE": 2500,
    "DEQUANTIZE": 1500,
    "RESHAPE": 1000,
    "SQUEEZE": 1000,
    "EXPAND_DIMS": 1000,
    "LOGISTIC": 3000,
    "TANH": 3000,
    "RELU": 1500,
    "RELU6": 1500,
    "HARD_SWISH": 2000,
    "TRANSPOSE": 4500,
    "RESIZE_BILINEAR": 3500,
    "RESIZE_NEAREST_NEIGHBOR": 2000,
    "SPLIT": 2000,
    "SPLIT_V": 2000,
    "PACK": 2000,
    "UNPACK": 1500,
    "GATHER": 2500,
    "ARG_MAX": 2000,
    "MAXIMUM": 5000,
    "MINIMUM": 5000,
}
_SHARED = (("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), ("PAD", "PADV2"), ("AVERAGE_POOL_2D", "MAX_POOL_2D"))
"""Kernels of one file: the second costs little more."""


@dataclass(frozen=True, slots=True)
class Flash:
    """Estimated flash in bytes.

    Attributes:
        model: The .tflite file.
        kernels: Operator -> code.
        runtime: Interpreter, planner, start-up and C library.
    """

    model: int
    kernels: Mapping[str, int]
    runtime: int = RUNTIME + START_UP

    @property
    def total(self) -> int:
        """All of it."""
        return self.model + sum(self.kernels.values()) + self.runtime


def estimate(graph: TfliteGraph, model_bytes: int) -> Flash:
    """Estimates the flash of a program with this model.

    Args:
        graph: The file.
        model_bytes: Its size.
    """
    used = sorted({op.op for op in graph.operators})
    kernels = {op: _KERNELS.get(op, OTHER) for op in used}
    for group in _SHARED:
        for op in [op for op in group if op in kernels][1:]:
            kernels[op] = 500
    return Flash(model_bytes, kernels)
