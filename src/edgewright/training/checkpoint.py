"""What a training needs to go on after a kill: one file, replaced whole at the end of every epoch."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgewright.core.training import Epoch


@dataclass(slots=True)
class Progress:
    """How far a training is.

    Attributes:
        epochs: Finished.
        start: The score before the first.
        best: Index of the best epoch, -1 for the start.
        best_score: Its score.
        best_state: Its tensors.
    """

    epochs: list[Epoch]
    start: float | None
    best: int
    best_score: float | None
    best_state: dict[str, Tensor]


def save(path: Path, progress: Progress, network: nn.Module, *others: Any) -> None:
    """Writes the state of a training; a kill at any moment leaves the old file or the new one.

    Args:
        path: Where to.
        progress: How far it is.
        network: Being trained.
        others: What else has a `state_dict`: optimiser, scaler of gradients.
    """
    state = {
        "epochs": [asdict(epoch) for epoch in progress.epochs],
        "start": progress.start,
        "best": progress.best,
        "best_score": progress.best_score,
        "best_state": progress.best_state,
        "network": network.state_dict(),
        "others": [other.state_dict() for other in others],
    }
    content = io.BytesIO()
    torch.save(state, content)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(path: Path, network: nn.Module, *others: Any) -> Progress | None:
    """Brings a training back to where `save` left it; returns None where there is nothing."""
    if not path.is_file():
        return None
    state = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(state["network"])
    for other, kept in zip(others, state["others"], strict=True):
        other.load_state_dict(kept)
    epochs = [Epoch(**epoch) for epoch in state["epochs"]]
    return Progress(epochs, state["start"], state["best"], state["best_score"], state["best_state"])


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Returns copies of all tensors of `network`, in main memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in network.state_dict().items()}
