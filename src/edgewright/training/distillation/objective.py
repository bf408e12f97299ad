"""Distillation as an objective of the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from edgewright.training.distillation.inside import Inside
from edgewright.training.distillation.outputs import OutputLoss, total
from edgewright.training.distillation.settings import Comparison
from edgewright.training.distillation.teacher import Teacher
from edgewright.training.loop import Batch
from edgewright.training.losses import cross_entropy


class Student(nn.Module):
    """The model that learns, and the projections that learn with it."""

    def __init__(self, model: fx.GraphModule, inside: Inside) -> None:
        super().__init__()
        self.model = model
        self.inside = inside

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Returns the logits of all outputs, then the tensors of all points."""
        return tuple(self.model(*inputs))


@dataclass(frozen=True, slots=True, eq=False)
class Distillation:
    """Difference to a teacher, beside the cross-entropy with labels.

    Attributes:
        comparison: Weights.
        teacher: Answers with the logits of all outputs, then the tensors of all points.
        outputs: Losses of the outputs.
    """

    comparison: Comparison
    teacher: Teacher
    outputs: tuple[OutputLoss, ...]

    @property
    def title(self) -> str:
        return "top-1" if self.comparison.labels else "-loss"

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        given: Sequence[Tensor] = network(*batch.inputs)
        wanted = self.teacher.answer(batch)
        count, weights = len(self.outputs), self.comparison
        parts: list[Tensor] = []
        if weights.logits:
            parts.append(weights.logits * total(self.outputs, given[:count], wanted[:count]))
        if len(given) > count:
            parts.append(cast(Student, network).inside(given[count:], wanted[count:]))
        if weights.labels and batch.labels is not None:
            parts.append(weights.labels * cross_entropy(given[0], batch.labels))
        return torch.stack(parts).sum()

    def score(self, network: nn.Module, batch: Batch) -> tuple[float, int]:
        given: Sequence[Tensor] = network(*batch.inputs)
        if self.comparison.labels and batch.labels is not None:
            kept = batch.labels >= 0
            return float(((given[0].argmax(1) == batch.labels) & kept).sum()), int(kept.sum())
        count, wanted = len(self.outputs), self.teacher.answer(batch)
        return -float(total(self.outputs, given[:count], wanted[:count])) * len(batch.rows), len(batch.rows)
