"""Kept for a moment: see `edgewright.device.timing.telemetry`."""

from edgewright.device.timing.telemetry import (
    SERIES_POINTS,
    Watch,
    energy_mj,
    summarise,
    throttle_note,
)

__all__ = ["SERIES_POINTS", "Watch", "energy_mj", "summarise", "throttle_note"]
