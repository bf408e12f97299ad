"""Losses on outputs: class scores, independent probabilities, plain values and dense detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.training.distillation.settings import Comparison, Detector

OutputLoss = Callable[[Tensor, Tensor], Tensor]
"""(What the student gives, what the teacher gives) -> scalar."""
_TINY = 1e-6
_RARE = 1e-4
"""Probabilities below are not told apart: the curvature of their divergence has no bound."""


@dataclass(frozen=True, slots=True)
class Classes:
    """Divergence of softened class scores (Hinton et al. 2015), times the square of the temperature.

    Attributes:
        temperature: Divides the logits.
        axis: Of the classes.
    """

    temperature: float
    axis: int = -1

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (F.log_softmax(_rows(x, self.axis) / self.temperature, -1) for x in (student, teacher))
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * self.temperature**2


@dataclass(frozen=True, slots=True)
class Decoupled:
    """Divergence about the teacher's top class, and that among the other classes (Zhao et al. 2022, DKD).

    Attributes:
        temperature: Divides the logits.
        axis: Of the classes.
        others: Weight of the second part.
    """

    temperature: float
    axis: int = -1
    others: float = 4.0

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (_rows(x, self.axis) / self.temperature for x in (student, teacher))
        top = theirs.argmax(-1, keepdim=True)
        first = _bernoulli(F.softmax(ours, -1).gather(-1, top), F.softmax(theirs, -1).gather(-1, top)).mean()
        hidden = torch.zeros_like(theirs).scatter(-1, top, 1000.0)
        rest = [F.log_softmax(x - hidden, -1) for x in (ours, theirs)]
        second = F.kl_div(rest[0], rest[1], reduction="batchmean", log_target=True)
        return (first + self.others * second) * self.temperature**2


@dataclass(frozen=True, slots=True)
class Binary:
    """Divergence of independent softened probabilities, their logits given.

    Attributes:
        temperature: Divides the logits.
    """

    temperature: float

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = student / self.temperature, teacher / self.temperature
        wanted = torch.sigmoid(theirs)
        excess = F.binary_cross_entropy_with_logits(ours, wanted, reduction="none")
        least = F.binary_cross_entropy_with_logits(theirs, wanted, reduction="none")
        return (excess - least).sum() / max(len(student), 1) * self.temperature**2


@dataclass(frozen=True, slots=True)
class Values:
    """Squared or absolute difference relative to how far the teacher's values spread.

    Attributes:
        spread: Standard deviation of the teacher's values.
        absolute: Absolute instead of squared.
    """

    spread: float
    absolute: bool = False

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = student / self.spread, teacher / self.spread
        return F.l1_loss(ours, theirs) if self.absolute else F.mse_loss(ours, theirs)


@dataclass(frozen=True, slots=True, eq=False)
class DenseDetector:
    """Divergence of a detector's raw output; every position counts as much as the teacher sees something there.

    Without the weights the loss would be that of the background, which is nearly all there is.

    Attributes:
        columns: Axis of the columns: 1 or 2.
        boxes: Columns of the boxes.
        spread: Standard deviation of each box column where the teacher sees something, [boxes].
        objectness: Its column, None where there is none.
        classes: Columns of class scores.
        box_weight: Of the boxes' loss.
    """

    columns: int
    boxes: Tensor
    spread: Tensor
    objectness: int | None
    classes: Tensor
    box_weight: float

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = (x.transpose(1, 2) if self.columns == 1 else x for x in (student, teacher))
        weight = self.seen(theirs)
        total = weight.sum().clamp(min=1.0)
        boxes = (self._pick(ours, self.boxes) - self._pick(theirs, self.boxes)) / self.spread.to(ours.device)
        loss = self.box_weight * (
            F.smooth_l1_loss(boxes, torch.zeros_like(boxes), reduction="none", beta=0.1).sum(-1) * weight
        )
        classes = _bernoulli(self._pick(ours, self.classes), self._pick(theirs, self.classes)).sum(-1)
        if self.objectness is None:
            return (loss.sum() + classes.sum()) / total
        there = _bernoulli(ours[..., self.objectness], theirs[..., self.objectness])
        return (loss.sum() + (classes * weight).sum() + there.sum()) / total

    def seen(self, teacher: Tensor) -> Tensor:
        """Returns how sure the teacher is of something at each position, [samples, positions]."""
        if self.objectness is None:
            return self._pick(teacher, self.classes).amax(-1)
        return teacher[..., self.objectness]

    def sensitivity(self, teacher: Tensor) -> Tensor:
        """Returns the root of the loss's curvature by each value of the output, in its shape."""
        theirs = teacher.transpose(1, 2) if self.columns == 1 else teacher
        weight = self.seen(theirs)[..., None]
        likely = theirs.clamp(_RARE, 1 - _RARE)
        curvature = weight / (likely * (1 - likely))
        if self.objectness is not None:
            curvature[..., self.objectness] /= weight[..., 0].clamp(min=_TINY)
        curvature[..., self.boxes.to(theirs.device)] = self.box_weight * weight / self.spread.to(theirs.device) ** 2
        return (curvature.transpose(1, 2) if self.columns == 1 else curvature).sqrt()

    @staticmethod
    def _pick(x: Tensor, columns: Tensor) -> Tensor:
        return x.index_select(-1, columns.to(x.device))


def choose(comparison: Comparison, end: str, samples: Tensor, classes: int) -> OutputLoss:
    """Returns the loss of one output.

    Args:
        comparison: What is asked for.
        end: Operator behind the logits: `Softmax`, `LogSoftmax`, `Sigmoid` or "".
        samples: What the teacher gives on some samples.
        classes: Names of classes that the data have; 0 where they have none.
    """
    kind = comparison.loss if comparison.loss != "auto" else kind_of(end, samples, classes)
    axis = _class_axis(samples, classes)
    if kind == "classes":
        return Classes(comparison.temperature, axis)
    if kind == "decoupled":
        return Decoupled(comparison.temperature, axis)
    if kind == "binary":
        return Binary(comparison.temperature)
    if kind == "detector":
        return detector(samples, comparison.detector)
    return Values(max(float(samples.float().std()), _TINY), absolute=kind == "l1")


def kind_of(end: str, samples: Tensor, classes: int) -> str:
    """Returns what an output is, from the operator behind its logits and what the teacher gives."""
    if end in ("Softmax", "LogSoftmax"):
        return "classes"
    if end == "Sigmoid":
        return "binary"
    if samples.dim() == 3 and _looks_like_a_detector(samples):
        return "detector"
    named = classes > 1 and samples.dim() in (2, 4) and classes in samples.shape[1:]
    return "classes" if named else "mse"


def detector(samples: Tensor, asked: Detector) -> DenseDetector:
    """Returns the loss of a dense detector, columns that are not named found by what the teacher gives."""
    columns = _columns(samples)
    rows = (samples.transpose(1, 2) if columns == 1 else samples).reshape(-1, samples.shape[columns]).float()
    within = (rows.amin(0) >= 0) & (rows.amax(0) <= 1)
    if asked.boxes != (0, 0):
        within = torch.ones_like(within)
        within[slice(*asked.boxes)] = False
    boxes, scores = torch.nonzero(~within).flatten(), torch.nonzero(within).flatten()
    objectness = _objectness(rows, scores) if asked.objectness == -1 else asked.objectness
    found = objectness if objectness is not None and objectness >= 0 else None
    classes = scores if found is None else scores[scores != found]
    seen = rows[:, classes].amax(-1) if found is None else rows[:, found]
    sure = rows[seen >= seen.quantile(0.98) if len(seen) < 1 << 20 else seen >= 0.1][:, boxes]
    spread = (sure if len(sure) > 1 else rows[:, boxes]).std(0).clamp(min=_TINY)
    return DenseDetector(columns, boxes, spread, found, classes, asked.box_weight)


def _looks_like_a_detector(samples: Tensor) -> bool:
    """Tells columns of probabilities beside columns of other numbers, and many more positions than columns."""
    columns = _columns(samples)
    rows = samples.transpose(1, 2) if columns == 1 else samples
    within = (rows.amin((0, 1)) >= 0) & (rows.amax((0, 1)) <= 1)
    return bool(within.any() and not within.all() and rows.shape[1] >= 4 * rows.shape[2])


def _columns(samples: Tensor) -> int:
    return 2 if samples.shape[2] <= samples.shape[1] else 1


def _objectness(rows: Tensor, scores: Tensor) -> int | None:
    """Returns the first column of scores where it gates the others.

    Class scores beside an objectness are trained only where there are objects: elsewhere they are often large. Where
    there is none, class scores themselves are small wherever there is nothing.
    """
    if len(scores) < 2:
        return None
    first, others = rows[:, scores[0]], rows[:, scores[1:]].amax(-1)
    empty = first < 0.05
    loud = (others[empty] > 0.05).float().mean() if bool(empty.any()) else torch.zeros(())
    return int(scores[0]) if float(loud) > 0.1 else None


def _class_axis(samples: Tensor, classes: int) -> int:
    """Returns the axis of the classes: that with as many entries as there are names, else 1 of maps, the last else."""
    fitting = [axis for axis in range(1, samples.dim()) if samples.shape[axis] == classes]
    if fitting:
        return fitting[0] if samples.dim() == 4 else fitting[-1]
    return 1 if samples.dim() == 4 else -1


def _rows(x: Tensor, axis: int) -> Tensor:
    """Returns [samples and positions, classes]."""
    return x.movedim(axis, -1).reshape(-1, x.shape[axis]).float()


def _bernoulli(student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the divergence of probabilities, element by element."""
    ours, theirs = (x.float().clamp(_TINY, 1 - _TINY) for x in (student, teacher))
    return theirs * (theirs.log() - ours.log()) + (1 - theirs) * ((1 - theirs).log() - (1 - ours).log())


def total(losses: Sequence[OutputLoss], student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Returns the sum of the losses of all outputs."""
    parts = [loss(a.float(), b.float()) for loss, a, b in zip(losses, student, teacher, strict=True)]
    return torch.stack(parts).sum()
