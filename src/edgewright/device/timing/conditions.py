"""The state of the machine while it is timed."""

from __future__ import annotations

from pathlib import Path

from edgewright.core.measurement import Conditions
from edgewright.core.telemetry import Telemetry
from edgewright.runtimes._conditions import SYS, governor, load_average, temperature

__all__ = ["conditions", "governor", "load_average", "temperature"]


def conditions(
    *,
    threads: int,
    batch: int,
    load: float,
    rounds: int,
    warmup: int,
    note: str,
    telemetry: Telemetry | None = None,
    root: Path = SYS,
) -> Conditions:
    """Returns the conditions, with governor and temperature as the kernel says."""
    return Conditions(threads, batch, governor(root), temperature(root), load, rounds, warmup, note, telemetry)
