"""Where to train, and in which precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import deterministic

from edgewright.errors import ConfigError
from edgewright.training.settings import Fit

_DETERMINISTIC: Any = deterministic
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What trains.

    Attributes:
        device: In PyTorch's terms.
        title: `cpu` or the name of the GPU.
        half: The narrow type of mixed precision; None for float32 throughout.
    """

    device: torch.device
    title: str
    half: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """Computes in the narrow type what is safe in it."""
        return nullcontext() if self.half is None else torch.autocast(self.device.type, self.half)

    @contextmanager
    def repeatable(self) -> Iterator[None]:
        """Random numbers of its own, and kernels that give the same result every time, while it lasts."""
        gpu = self.device.type == "cuda"
        devices = [torch.cuda.current_device()] if gpu else []
        kept = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        if gpu:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        filled, _DETERMINISTIC.fill_uninitialized_memory = _DETERMINISTIC.fill_uninitialized_memory, False
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            with torch.random.fork_rng(devices):
                yield
        finally:
            torch.use_deterministic_algorithms(kept[0], warn_only=kept[1])
            _DETERMINISTIC.fill_uninitialized_memory = filled

    @property
    def scales(self) -> bool:
        """Whether small gradients must be scaled up: float16 loses them, bfloat16 does not."""
        return self.half is torch.float16


def accelerator(fit: Fit) -> Accelerator:
    """Chooses where to train.

    Raises:
        ConfigError: A GPU is asked for and PyTorch sees none, or a precision that it cannot do here.
    """
    here = torch.cuda.is_available()
    if fit.accelerator == "cuda" and not here:
        raise ConfigError(
            'accelerator = "cuda", and PyTorch sees no GPU',
            hint='install PyTorch for CUDA and a driver, or use accelerator = "auto"',
        )
    if fit.accelerator == "cpu" or not here:
        if fit.precision == "fp16":
            raise ConfigError('precision = "fp16" needs a GPU', hint='use precision = "auto", or "bf16"')
        return Accelerator(torch.device("cpu"), "cpu", _HALVES.get(fit.precision))
    native = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    chosen = native if fit.precision == "auto" else fit.precision
    return Accelerator(torch.device("cuda"), torch.cuda.get_device_name(), _HALVES.get(chosen))
