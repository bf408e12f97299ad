"""What a teacher gives: computed once and kept where the samples stay as they are, otherwise anew for every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgewright.training.examples import Examples
from edgewright.training.loop import Batch

IN_MEMORY = 1 << 30
"""Bytes of answers kept in memory; more go to files, up to `ON_DISK`, and more than that are not kept."""
ON_DISK = 16 << 30
_AT_ONCE = 32

Progress = Callable[[float, str], None]


class Teacher:
    """A network whose answers are wanted, without gradients, in `eval` mode."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)
        self._kept: tuple[Tensor, ...] | None = None

    def answer(self, batch: Batch) -> tuple[Tensor, ...]:
        """Returns what it gives on `batch`, on the device of the batch."""
        if self._kept is not None and not batch.augmented:
            device = batch.inputs[0].device
            return tuple(kept[batch.rows].to(device, non_blocking=True) for kept in self._kept)
        return self.run(batch.inputs)

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns what it gives on `inputs`."""
        self.network.to(inputs[0].device)
        with torch.no_grad():
            return tuple(self.network(*inputs))

    def keep(self, examples: Examples, folder: Path, device: torch.device, progress: Progress) -> bool:
        """Computes the answers to all `examples` and keeps them where they fit; says whether they did."""
        first = self.run(tuple(tensor[:1].to(device) for tensor in examples.inputs))
        size = sum(answer.nbytes for answer in first) * len(examples)
        if size > ON_DISK:
            return False
        kept = [_room(a, len(examples), None if size <= IN_MEMORY else folder / f"teacher-{i}.npy")
                for i, a in enumerate(first)]  # fmt: skip
        for rows in torch.split(torch.arange(len(examples)), _AT_ONCE):
            answers = self.run(tuple(tensor[rows].to(device) for tensor in examples.inputs))
            for room, answer in zip(kept, answers, strict=True):
                room[rows] = answer.to("cpu", room.dtype)
            progress(float(rows[-1] + 1) / len(examples), "the teacher answers")
        self._kept = tuple(kept)
        return True


def _room(like: Tensor, count: int, file: Path | None) -> Tensor:
    shape = (count, *like.shape[1:])
    if file is None:
        return torch.empty(shape, dtype=like.dtype)
    file.parent.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(file, "w+", torch.empty((), dtype=like.dtype).numpy().dtype, shape)
    return torch.from_numpy(array)
