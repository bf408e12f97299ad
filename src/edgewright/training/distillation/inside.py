"""Losses on the inside: features through a projection, attention maps, attention probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from edgewright.training.distillation.points import Point

RIDGE = 1e-3
"""Of the least squares that a projection starts from, relative to the mean square of the features."""
_TINY = 1e-8


class Projection(nn.Module):
    """A linear map along one axis: what a 1x1 convolution does to features (Romero et al. 2015, FitNets)."""

    def __init__(self, channels: tuple[int, int], axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.linear = nn.Linear(*channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [..., student's channels, ...] to [..., teacher's channels, ...]."""
        projected: Tensor = self.linear(x.movedim(self.axis, -1))
        return projected.movedim(-1, self.axis)

    @torch.no_grad()
    def start(self, student: Tensor, teacher: Tensor) -> None:
        """Starts from the ridge regression of the teacher's features on the student's."""
        x, y = (t.movedim(self.axis, -1).reshape(-1, t.shape[self.axis]).double() for t in (student, teacher))
        middle, wanted = x.mean(0), y.mean(0)
        x, y = x - middle, y - wanted
        square = x.T @ x
        square += torch.eye(len(square), dtype=square.dtype, device=x.device) * (RIDGE * square.trace() / len(square))
        square += torch.eye(len(square), dtype=square.dtype, device=x.device) * _TINY
        weight = torch.linalg.solve(square, x.T @ y).T
        self.linear.weight.copy_(weight)
        self.linear.bias.copy_(wanted - weight @ middle)


class Inside(nn.Module):
    """The losses of all points; projections are its parameters, trained with the student and then thrown away."""

    def __init__(self, points: Sequence[Point]) -> None:
        super().__init__()
        self.points = tuple(points)
        self.projections = nn.ModuleList(
            Projection(point.channels, point.axis) if _projected(point) else nn.Identity() for point in points
        )

    def start(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        """Starts the projections from what both models give at the points."""
        for projection, ours, theirs in zip(self.projections, student, teacher, strict=True):
            if isinstance(projection, Projection):
                projection.start(ours, theirs)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Returns the weighted sum of the losses of all points."""
        parts = [
            point.weight * _LOSSES[point.kind](projection(ours.float()), theirs.float())
            for point, projection, ours, theirs in zip(self.points, self.projections, student, teacher, strict=True)
        ]
        return torch.stack(parts).sum()


def features(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean squared difference as a share of the variance of the teacher's features."""
    return F.mse_loss(student, teacher) / teacher.var().clamp(min=_TINY)


def attention_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the distance of normalised maps of energy (Zagoruyko and Komodakis 2017), from [N, C, H, W]."""
    ours, theirs = (F.normalize(x.square().mean(1).flatten(1), dim=1) for x in (student, teacher))
    return (ours - theirs).square().sum(1).mean()


def attention_probabilities(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the mean divergence of where tokens look, from [N, heads, tokens, tokens].

    With as many heads each is compared with its like, else their mean (Wang et al. 2020, MiniLM compares the last).
    """
    if student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    ours, theirs = (x.clamp(min=_TINY) for x in (student, teacher))
    return (theirs * (theirs.log() - ours.log())).sum(-1).mean()


_LOSSES = {"features": features, "map": attention_map, "probabilities": attention_probabilities}


def _projected(point: Point) -> bool:
    return point.kind == "features" and (point.channels[0] != point.channels[1] or point.student != point.teacher)
