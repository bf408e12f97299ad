"""What became of every sample: `outcomes.json`, the evidence behind a quality figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgewright.core.decision import Decision, decision_from_json, decision_to_json
from edgewright.errors import Corrupt

OUTCOMES = "outcomes.json"
_LARGEST_LABEL = 4096
"""Labels with more numbers (masks) are described, not repeated."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One sample.

    Attributes:
        id: The sample's.
        label: JSON-able; None where there is none.
        decision: As `decision_to_json` writes it.
        contributions: Metric name -> contribution.
        changed: True when the decision differs from the reference's.
    """

    id: str
    label: Any
    decision: dict[str, Any]
    contributions: dict[str, Any]
    changed: bool = False

    def decided(self) -> Decision:
        """Returns the decision as a value."""
        return decision_from_json(self.decision)


def outcome(id: str, label: Any, decision: Decision, contributions: Mapping[str, Any], changed: bool) -> Outcome:
    """Makes the record of one sample."""
    return Outcome(id, plain(label), decision_to_json(decision), dict(contributions), changed)


def plain(label: Any) -> Any:
    """Returns a JSON-able label; a large array becomes its shape and dtype."""
    if isinstance(label, Mapping):
        return {str(key): plain(value) for key, value in label.items()}
    if isinstance(label, np.ndarray) and label.size > _LARGEST_LABEL:
        return {"shape": list(label.shape), "dtype": str(label.dtype)}
    if isinstance(label, (np.ndarray, np.generic)):
        return label.tolist()
    if isinstance(label, (list, tuple)):
        return [plain(value) for value in label]
    return label if label is None or isinstance(label, (bool, int, float, str)) else repr(label)


def write_outcomes(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Writes `outcomes.json`, one sample per line."""
    lines = b",\n".join(msgspec.json.encode(one) for one in outcomes)
    (folder / OUTCOMES).write_bytes(b"[\n" + lines + b"\n]\n")


def read_outcomes(folder: Path) -> list[Outcome]:
    """Reads what `write_outcomes` wrote.

    Raises:
        Corrupt: It is missing or malformed.
    """
    file = folder / OUTCOMES
    try:
        return msgspec.json.decode(file.read_bytes(), type=list[Outcome])
    except (OSError, msgspec.DecodeError) as error:
        raise Corrupt(f"{file}: not the outcomes of an evaluation: {error}", hint="evaluate the artifact again") from (
            error
        )
