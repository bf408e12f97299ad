"""Where to train, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from edgewright.errors import ConfigError
from edgewright.training.settings import Fit

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
