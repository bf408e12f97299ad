"""What of the teacher a student is compared with. No PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.errors import ConfigError

LOSSES = ("auto", "classes", "decoupled", "binary", "detector", "mse", "l1")
AUTO = "auto"
_ARROW = "->"


@dataclass(frozen=True, slots=True)
class Detector:
    """Columns of a dense detector's output, [samples, positions, columns] or with the last two axes turned.

    Attributes:
        objectness: Column that says whether something is there; -1 finds it, -2 says there is none (then the largest
            class score stands for it).
        boxes: First column of boxes and the one behind the last; (0, 0) finds them: those not within [0, 1].
        box_weight: Weight of the boxes' loss beside that of objectness and classes.
    """

    objectness: int = -1
    boxes: tuple[int, int] = (0, 0)
    box_weight: float = 2.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, and how much it counts.

    Attributes:
        loss: Of the outputs: one of `LOSSES`.
        temperature: Softens class scores.
        logits: Weight of the outputs.
        labels: Weight of the cross-entropy with labels.
        features: Pairs of tensors, `tensor` (in both) or `student -> teacher`; or `auto`.
        feature_weight: Of each pair.
        attention: Pairs whose attention is compared, in the same form; or `auto`.
        attention_weight: Of each pair.
        detector: Columns of a dense detector.
    """

    loss: str = "auto"
    temperature: float = 4.0
    logits: float = 1.0
    labels: float = 0.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    attention: tuple[str, ...] = ()
    attention_weight: float = 1.0
    detector: Detector = Detector()

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        if self.loss not in LOSSES:
            raise ConfigError(f'loss = "{self.loss}" is not known', hint=f"one of: {', '.join(LOSSES)}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature = {self.temperature}", hint="give a positive number, such as 4")
        for field in ("logits", "labels", "feature_weight", "attention_weight"):
            if getattr(self, field) < 0:
                raise ConfigError(f"{field} = {getattr(self, field)}", hint="give a weight of 0 or more")
        if not (self.logits or self.labels or self.features or self.attention):
            raise ConfigError("nothing is compared", hint="leave logits at 1, or name features")


def pair(text: str) -> tuple[str, str]:
    """Returns (tensor of the student, tensor of the teacher) of `tensor` or `student -> teacher`."""
    student, arrow, teacher = (part.strip() for part in text.partition(_ARROW))
    return student, teacher if arrow else student
