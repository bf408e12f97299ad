"""What `edgewright measure` found out about one artifact on one device."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.digest import Digest
from edgewright.core.measurement import Device, Quality, Timing
from edgewright.core.power import PowerSweep
from edgewright.core.target import OperatorTime


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """One golden pair of a bundle, decided again.

    Attributes:
        input: File of the raw input.
        difference: See `edgewright.bundle.compare.difference`.
        tolerance: What is allowed.
    """

    input: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """True when the decision is the recorded one within tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True, slots=True)
class Measured:
    """An artifact on a device.

    Attributes:
        subject: The bundle or folder that was measured.
        artifact: Digest of the artifact folder.
        variant: Which artifact of a bundle the device runs; empty where there is no choice.
        target: Name of the target that it was compiled for.
        precision: Main compute precision.
        runtime: Name and version of the runtime on the device.
        device: The machine.
        timing: Latency, memory and conditions, there.
        samples: What it was timed with.
        reference: What the speed-up compares with; empty where it was timed alone.
        golden: Golden pairs of a bundle.
        quality: On a split of the project; None where no project was given.
        operators: Time per operator, where it was asked for.
        power: The same artifact in one power mode after another, where it was asked for.
    """

    subject: str
    artifact: Digest
    variant: str
    target: str
    precision: str
    runtime: str
    device: Device
    timing: Timing
    samples: str
    reference: str = ""
    golden: tuple[GoldenCheck, ...] = ()
    quality: Quality | None = None
    operators: tuple[OperatorTime, ...] = ()
    power: PowerSweep | None = None

    @property
    def ok(self) -> bool:
        """True when every golden pair is within tolerance."""
        return all(check.ok for check in self.golden)


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A device that gave no figures, and why.

    Attributes:
        device: What it is called.
        error: Class of the error.
        message: What went wrong.
        hint: What the reader can do about it.
        exit_code: Of the command line.
    """

    device: str
    error: str
    message: str
    hint: str
    exit_code: int
