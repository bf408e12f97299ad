"""Step `audit`: the data held against the model and themselves before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from edgewright.core.codec import encode_json
from edgewright.core.data import Sample
from edgewright.core.step import Context


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found.

    Attributes:
        warnings: Sentences a reader must know before trusting a figure.
        labels: Class names.
        samples: Split -> how many there are.
        classes: Splits whose labels are class indices.
    """

    warnings: tuple[str, ...]
    labels: tuple[str, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuditStep:
    """Checks splits, labels and samples, and doubts the calibration set. Inputs: data. Writes `audit.json`.

    Attributes:
        metrics: Names that must exist.
    """

    name: ClassVar[str] = "audit"
    version: ClassVar[int] = 2
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
        samples = {name: len(data.dataset(name)) for name in data.splits}
        classes = tuple(name for name in data.splits if data.has_labels(name) and _is_class(data.dataset(name)))
        warnings = (*found, *calibration_warnings(data))
        (out / "audit.json").write_bytes(encode_json(Audit(warnings, data.labels, samples, classes)))


def _is_class(samples: Iterable[Sample]) -> bool:
    """Tells by the first sample whether labels are class indices."""
    first = next(iter(samples), None)
    return first is not None and isinstance(first.label, (int, np.integer)) and not isinstance(first.label, bool)


plugin = AuditStep
