"""Step `audit`: the data held against the model and themselves before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found: sentences a reader must know before trusting a figure, and the class names."""

    warnings: tuple[str, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditStep:
    """Checks splits, labels and samples, and doubts the calibration set. Inputs: data. Writes `audit.json`.

    Attributes:
        metrics: Names that must exist.
    """

    name: ClassVar[str] = "audit"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    metrics: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Reads the splits once.

        Raises:
            DataError: Splits overlap, a label is out of range, or a sample does not fit the model.
            ConfigError: A metric is unknown.
        """
        from edgewright.data import calibration_warnings, check_data, open_data
        from edgewright.measure.metrics import make_metrics

        data = open_data(inputs["data"])
        make_metrics(self.metrics, data.root)
        context.progress(0.1, "checking splits and labels")
        found = check_data(data)
        context.progress(0.6, "judging the calibration set")
        (out / "audit.json").write_bytes(encode_json(Audit((*found, *calibration_warnings(data)), data.labels)))


plugin = AuditStep
