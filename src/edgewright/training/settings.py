"""How to train: what a training pass's fields say. No PyTorch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright.errors import ConfigError

_OPTIMISERS = ("adamw", "adam", "sgd")
_SCHEDULES = ("cosine", "one-cycle", "linear", "constant")
_PRECISIONS = ("auto", "float32", "bf16", "fp16")
_ACCELERATORS = ("auto", "cpu", "cuda")
_BATCH_NORMS = ("train", "frozen")
AUGMENTATIONS = ("flip", "crop", "shift", "noise", "cutout", "mask-tokens", "mixup")


@dataclass(frozen=True, slots=True)
class Fit:
    """Everything about training beside epochs, batch size and learning rate.

    Attributes:
        optimiser: `adamw`, `adam` or `sgd` (Nesterov momentum).
        schedule: Of the learning rate: `cosine`, `one-cycle` (Smith 2018), `linear` or `constant`.
        warmup: Share of the steps in which the rate rises from zero; `one-cycle` rises in this share instead.
        weight_decay: Of weights with two axes or more.
        momentum: Of `sgd`.
        clip_norm: Largest norm of the gradient; 0 leaves it alone.
        augment: Tables of augmentations, each with `op`: `flip`, `crop`, `shift`, `noise`, `cutout`, `mask-tokens`,
            `mixup` (without labels) or `module:function`.
        patience: Stop after so many epochs without a better score; 0 trains all epochs.
        validation: Share of the samples that are held out of training for the score.
        precision: `float32`, `bf16`, `fp16`, or `auto` for what the accelerator does natively.
        accelerator: `cpu`, `cuda`, or `auto` for a GPU where there is one.
        keep_zeros: Weights of which a quarter or more is zero keep their zeros.
        batch_norm: `train` uses and updates statistics of the batch; `frozen` leaves the stored ones alone.
    """

    optimiser: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.05
    weight_decay: float = 1e-4
    momentum: float = 0.9
    clip_norm: float = 0.0
    augment: tuple[Mapping[str, Any], ...] = ()
    patience: int = 0
    validation: float = 0.1
    precision: str = "auto"
    accelerator: str = "auto"
    keep_zeros: bool = True
    batch_norm: str = "train"

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        _one_of("optimiser", self.optimiser, _OPTIMISERS)
        _one_of("schedule", self.schedule, _SCHEDULES)
        _one_of("precision", self.precision, _PRECISIONS)
        _one_of("accelerator", self.accelerator, _ACCELERATORS)
        _one_of("batch_norm", self.batch_norm, _BATCH_NORMS)
        for table in self.augment:
            if ":" not in str(table.get("op", "")):
                _one_of("augment op", str(table.get("op", "")), AUGMENTATIONS)
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation = {self.validation}", hint="give a share from 0 to below 1, such as 0.1")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup = {self.warmup}", hint="give a share from 0 to below 1, such as 0.05")


@dataclass(frozen=True, slots=True)
class Regime:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the samples.
        batch: Samples per optimiser step.
        learning_rate: The highest that the schedule reaches.
        fit: Everything else.
    """

    epochs: int
    batch: int
    learning_rate: float
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        if self.epochs < 1:
            raise ConfigError(f"epochs = {self.epochs}", hint="train for one epoch at least, or leave the pass out")
        if self.batch < 1:
            raise ConfigError(f"batch = {self.batch}", hint="give the number of samples per step, such as 64")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate = {self.learning_rate}", hint="give a positive rate, such as 0.001")


def _one_of(field: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f'{field} = "{value}" is not known', hint=f"one of: {', '.join(known)}")
