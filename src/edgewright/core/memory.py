"""What a model needs of a microcontroller: `memory.json` in the folder of an artifact for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MEMORY_FILE = "memory.json"
PICTURE_FILE = "arena.svg"


@dataclass(frozen=True, slots=True)
class Memory:
    """Every figure says whether it was measured, predicted or estimated; all are in bytes.

    Attributes:
        measured: The interpreter's own account, on the machine that compiled: `total`, `head` (tensors and scratch,
            sharing room over time), `tail` (what stays).
        predicted: The same worked out without running it: `here`, which `measured` confirms, and `board`, for a
            32-bit microcontroller; `setup` is what opening the model needs.
        error: Predicted over measured, minus one.
        flash: Estimated: `model`, `kernels` by operator, `runtime`, `total`.
        board: What a board has and what the model needs of it; empty without a board.
        peak: What lies in the arena at the operator that needs most, the largest first.
        operators: Operators used.
        accelerator: Vela's predictions; empty without an accelerator.
        schema: Of this layout.
    """

    measured: Mapping[str, int]
    predicted: Mapping[str, Mapping[str, int]]
    error: float
    flash: Mapping[str, Any]
    board: Mapping[str, Any]
    peak: tuple[Mapping[str, Any], ...]
    operators: tuple[str, ...]
    accelerator: Mapping[str, Any] = field(default_factory=dict)
    schema: int = 1
