"""How much each part of a quantisation costs in accuracy: what the pass `sensitivity` writes."""

from __future__ import annotations

from dataclasses import dataclass

SENSITIVITY_FILE = "sensitivity.json"


@dataclass(frozen=True, slots=True)
class GroupSensitivity:
    """What quantising one group alone does to the outputs of the model.

    Attributes:
        operators: Operators with weights that are quantised, or kept in float, together.
        tensors: What is quantised because of them.
        loss: What a choice adds up: mean over outputs of noise power over signal power, or of `divergence` for
            outputs that are probabilities. Independent errors add in it.
        sqnr_db: Signal to noise over all outputs, at most 200.
        mse: Mean squared error over all outputs.
        divergence: Kullback-Leibler divergence in nats; None where no output is a probability.
        share: Share of the model's multiply-accumulates that ran again behind the cut.
        nodes: Everything that computes in float when they do: themselves, and activations behind them.
        feeds: Names of the groups that read their results.
        elements: Values in their results.
    """

    operators: tuple[str, ...]
    tensors: tuple[str, ...]
    loss: float
    sqnr_db: float
    mse: float
    divergence: float | None = None
    share: float = 1.0
    nodes: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    elements: int = 0

    @property
    def name(self) -> str:
        """Its first operator."""
        return self.operators[0]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Every group of one quantisation.

    Attributes:
        scheme: Its name.
        samples: How many the figures rest on.
        groups: In graph order.
    """

    scheme: str
    samples: int
    groups: tuple[GroupSensitivity, ...]

    @property
    def share(self) -> float:
        """Multiply-accumulates that ran, over those of a whole run per group."""
        return sum(group.share for group in self.groups) / max(len(self.groups), 1)
