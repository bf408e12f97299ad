"""Losses that a model may hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Buffer

_IGNORE_NOTHING = -(2**31)


def negative_log_likelihood_loss(
    x: Tensor, target: Tensor, weight: Buffer | None = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Tensor:
    """Of log-probabilities [batch, classes, ...] and labels [batch, ...]; weights of classes are not trained."""
    ignored = _IGNORE_NOTHING if ignore_index is None else ignore_index
    return F.nll_loss(
        x, target.long(), None if weight is None else weight.detach(), ignore_index=ignored, reduction=reduction
    )


def softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Buffer | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """The second output holds the log-probabilities."""
    logs = torch.log_softmax(scores, 1)
    loss = negative_log_likelihood_loss(logs, labels, weights, ignore_index=ignore_index, reduction=reduction)
    return loss if outputs == 1 else (loss, logs)


OPERATORS: dict[str, Callable[..., Any]] = {
    "NegativeLogLikelihoodLoss": negative_log_likelihood_loss,
    "SoftmaxCrossEntropyLoss": softmax_cross_entropy_loss,
}
