"""What a training pass leaves behind beside its model: `training.json`."""

from __future__ import annotations

from dataclasses import dataclass

TRAINING_FILE = "training.json"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the samples. How long it took is in the record of the step, so that equal runs write equal bytes.

    Attributes:
        loss: Mean over the samples trained on.
        score: Of the held-out samples after the epoch; None where none were held out.
        learning_rate: At the end of the epoch.
    """

    loss: float
    score: float | None
    learning_rate: float


@dataclass(frozen=True, slots=True)
class History:
    """How a training went.

    Attributes:
        title: What the score is: `top-1`, `agreement`, `-loss`; higher is better.
        start: The score before the first epoch; None where no samples were held out.
        epochs: In order.
        best: Index of the epoch whose weights were kept; -1 for those it began with.
        samples: Trained on.
        held_out: Scored on.
        accelerator: `cpu` or the name of the GPU.
        stopped: Why it ended before its last epoch; empty where it did not.
    """

    title: str
    start: float | None
    epochs: tuple[Epoch, ...]
    best: int
    samples: int
    held_out: int
    accelerator: str = "cpu"
    stopped: str = ""
