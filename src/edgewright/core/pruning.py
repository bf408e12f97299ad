"""What structured pruning leaves behind beside its model: `pruning.json`."""

from __future__ import annotations

from dataclasses import dataclass

PRUNING_FILE = "pruning.json"


@dataclass(frozen=True, slots=True)
class PrunedGroup:
    """Channels or heads that can only be removed together.

    Attributes:
        group: Its name.
        kind: `channels`, `heads`, or `branch` for a residual branch, which is there (1) or not (0).
        layers: Nodes that make them.
        before: How many there were.
        after: How many are left.
    """

    group: str
    kind: str
    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Pruning:
    """What was removed, and what it was expected to bring.

    Attributes:
        goal: What was asked for, such as `latency 0.5`.
        importance: How channels were ranked: `magnitude`, `taylor`, `batch-norm`, `zeroed`.
        groups: Every group that could be pruned.
        fixed: Layer -> why its channels had to stay.
        predicted: Predicted latency relative to the model given; None where latency was not asked.
        macs: Multiply-accumulates of one sample after, relative to before.
        parameters: Weights after, relative to before.
    """

    goal: str
    importance: str
    groups: tuple[PrunedGroup, ...]
    fixed: tuple[tuple[str, str], ...] = ()
    predicted: float | None = None
    macs: float = 1.0
    parameters: float = 1.0
