"""Doubts about a calibration set: what a warning is worth before hours are spent on it."""

from __future__ import annotations


def calibration_warnings(data: object) -> tuple[str, ...]:
    """Placeholder."""
    return ()
