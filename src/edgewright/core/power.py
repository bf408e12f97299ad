"""What a sweep over the power modes of a device found."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.measurement import Timing


@dataclass(frozen=True, slots=True)
class PowerPoint:
    """One mode.

    Attributes:
        mode: Its name.
        timing: What was measured in it; None where the device did not take it on.
        per_watt: Samples per second and watt (samples per joule); None where power cannot be read.
        reason: Why there is no measurement.
    """

    mode: str
    timing: Timing | None = None
    per_watt: float | None = None
    reason: str = ""

    @property
    def throughput(self) -> float | None:
        """Samples per second."""
        return None if self.timing is None else self.timing.throughput

    @property
    def watts(self) -> float | None:
        """Power while it ran."""
        return None if self.per_watt is None or self.timing is None else self.timing.throughput / self.per_watt


@dataclass(frozen=True, slots=True)
class PowerSweep:
    """An artifact measured in one mode after another.

    Attributes:
        kind: `nvpmodel` or `governor`.
        points: In the order measured.
        fastest: Mode with the most samples per second; empty where none was measured.
        best: Mode with the most samples per second and watt; empty where power cannot be read.
        before: The mode the device was in, and is in again.
    """

    kind: str
    points: tuple[PowerPoint, ...]
    fastest: str
    best: str
    before: str
