"""Learning from labels: the objective of fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgewright.errors import ConfigError, DataError
from edgewright.training.examples import Examples
from edgewright.training.loop import Batch
from edgewright.training.losses import (
    OwnLoss,
    binary_cross_entropy,
    check_classes,
    cross_entropy,
    mean_squared_error,
    own_loss,
)


@dataclass(frozen=True, slots=True)
class Supervised:
    """A loss between outputs and labels; its score is `top-1` for classes, else the loss with its sign turned.

    Attributes:
        kind: `cross-entropy`, `mse`, `bce`, or the name of the own loss.
        outputs: Names of what the network returns.
        own: The user's loss.
        chosen: Position of the output that the built-in losses take.
        smoothing: Of labels, for `cross-entropy`.
    """

    kind: str
    outputs: tuple[str, ...]
    own: OwnLoss | None = None
    chosen: int = 0
    smoothing: float = 0.0

    @property
    def title(self) -> str:
        return "top-1" if self.kind == "cross-entropy" else "-loss"

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        given: Sequence[Tensor] = network(*batch.inputs)
        return self._loss(given, batch, self.smoothing)

    def score(self, network: nn.Module, batch: Batch) -> tuple[float, int]:
        given: Sequence[Tensor] = network(*batch.inputs)
        if self.kind != "cross-entropy":
            return -float(self._loss(given, batch, 0.0)) * len(batch.rows), len(batch.rows)
        assert batch.labels is not None
        kept = batch.labels >= 0
        right = (given[self.chosen].argmax(1) == batch.labels) & kept
        return float(right.sum()), int(kept.sum())

    def _loss(self, given: Sequence[Tensor], batch: Batch, smoothing: float) -> Tensor:
        if self.own is not None:
            return self.own(dict(zip(self.outputs, given, strict=True)), batch.raw_labels, batch.geometry)
        assert batch.labels is not None
        values = given[self.chosen]
        if self.kind == "cross-entropy":
            return cross_entropy(values, batch.labels, smoothing)
        return (mean_squared_error if self.kind == "mse" else binary_cross_entropy)(values, batch.labels)


def supervised(
    loss: str,
    network: nn.Module,
    outputs: Sequence[str],
    examples: Examples,
    *,
    output: str = "",
    smoothing: float = 0.0,
) -> Supervised:
    """Returns the objective, its labels held against what the network returns for one sample.

    Args:
        loss: `cross-entropy`, `mse`, `bce` or `module:function`.
        network: Returns a tuple.
        outputs: Names of what it returns.
        examples: Labels and samples.
        output: The one of `outputs` that a built-in loss takes; the first when empty.
        smoothing: Of labels.

    Raises:
        ConfigError: The loss or output is unknown.
        DataError: There are no labels, or they do not fit.
    """
    own = own_loss(loss, examples.root)
    if output and output not in outputs:
        raise ConfigError(f'the model has no output "{output}"', hint=f"one of {', '.join(outputs)}")
    if not examples.labelled:
        raise DataError(
            f'loss "{loss}" needs labels, and the samples have none',
            hint="label them, or learn from a teacher: `distill`",
        )
    chosen = list(outputs).index(output) if output else 0
    if own is None:
        with torch.no_grad():
            given = network.eval()(*(tensor[:1] for tensor in examples.inputs))[chosen]
        _check(loss, given, examples)
    return Supervised(loss, tuple(outputs), own, chosen, smoothing)


def _check(loss: str, given: Tensor, examples: Examples) -> None:
    labels = examples.labels
    if labels is None:
        kind = type(next(label for label in examples.raw_labels if label is not None)).__name__
        raise DataError(
            f'loss "{loss}" takes a number or an array of one shape as label, got {kind}',
            hint="write a loss of your own: module:function",
        )
    if loss == "cross-entropy":
        fits = not labels.is_floating_point() and given.dim() >= 2 and given.shape[2:] == labels.shape[1:]
        if fits:
            check_classes(labels, given.shape[1], examples.classes)
    else:
        fits = given[0].numel() == labels[0].numel()
    if not fits:
        raise DataError(
            f'loss "{loss}": the output is {list(given.shape[1:])} per sample, a label {list(labels.shape[1:])} of '
            f"{labels.dtype}",
            hint="choose another output or loss, or correct the labels",
        )
