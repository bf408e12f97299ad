"""Losses by name, and the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.data import load_function
from edgewright.errors import ConfigError, DataError, StepFailed
from edgewright.training.examples import NO_LABEL

LOSSES = ("cross-entropy", "mse", "bce")


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the samples that have a label; zero where none has.

    Args:
        logits: [batch, classes] or [batch, classes, positions...].
        labels: Class indices [batch] or [batch, positions...]; `NO_LABEL` does not count.
        smoothing: Share of the label spread over all classes (Szegedy et al. 2016, section 7).
    """
    total = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, label_smoothing=smoothing, reduction="sum")
    count = (labels != NO_LABEL).sum().clamp(min=1)
    return total / count


def mean_squared_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Mean of squared differences; shapes agree but for axes of size one."""
    return F.mse_loss(values.float(), wanted.float().reshape(values.shape))


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits against labels from 0 to 1 of the same shape but for axes of size one."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float().reshape(logits.shape))


@dataclass(frozen=True, slots=True)
class OwnLoss:
    """The user's `function(outputs, labels, geometry) -> scalar tensor`.

    `outputs` maps each output's name to its tensor, `labels` are the batch's labels as the reader gave them,
    `geometry` what the pre-processing noted about each sample (scale and padding of a resized image).
    """

    name: str
    function: Callable[..., Any]

    def __call__(
        self, outputs: Mapping[str, Tensor], labels: Sequence[Any], geometry: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        try:
            value = self.function(dict(outputs), list(labels), list(geometry))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            message = f"loss {self.name} raised {type(error).__name__}: {error}"
            hint = f"correct {self.name}; it is called as function(outputs, labels, geometry) and returns a scalar"
            raise StepFailed(message, hint=hint) from error
        if not isinstance(value, Tensor) or value.numel() != 1 or (not value.requires_grad and torch.is_grad_enabled()):
            got = (
                f"a tensor {list(value.shape)} without gradients" if isinstance(value, Tensor) else type(value).__name__
            )
            hint = f"let {self.name} return one number computed from the outputs with PyTorch operators"
            raise StepFailed(f"loss {self.name} returned {got}", hint=hint)
        return value.reshape(())


def own_loss(name: str, root: Path) -> OwnLoss | None:
    """Returns the user's loss where `name` is `module:function`, None where it is one of `LOSSES`.

    Raises:
        ConfigError: It is neither, or there is no such function.
    """
    if name in LOSSES:
        return None
    if ":" not in name:
        raise ConfigError(f'unknown loss "{name}"', hint=f"one of {', '.join(LOSSES)}, or module:function")
    return OwnLoss(name, load_function(name, root, f"loss {name}"))


def check_classes(labels: Tensor, classes: int, names: Sequence[str] = ()) -> None:
    """Refuses class indices beyond what the model tells apart.

    Raises:
        DataError: One is.
    """
    highest = int(labels.max()) if labels.numel() else NO_LABEL
    if highest >= classes:
        shown = f" ({names[highest]})" if highest < len(names) else ""
        raise DataError(
            f"a label is {highest}{shown}, and the model tells {classes} classes apart (0..{classes - 1})",
            hint="correct the labels, or give a model with an output per class",
        )
