"""The training loop: plain PyTorch, the same for every pass that trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgewright.core.step import Context
from edgewright.core.training import Epoch, History
from edgewright.errors import ConfigError, DataError, StepFailed
from edgewright.training import checkpoint, norms
from edgewright.training.accelerator import Accelerator, accelerator
from edgewright.training.augment import Augmentation, augmentations
from edgewright.training.examples import Examples
from edgewright.training.schedule import factor
from edgewright.training.settings import Regime
from edgewright.training.sparsity import Zeros

_TICK_SECONDS = 0.5
_READ_STEPS = 32
"""A loss is read so many steps late at most: reading waits for the accelerator."""
_SHARES = ("top-1", "agreement")
"""Scores that are shown as percentages."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples of one step, on the accelerator.

    Attributes:
        rows: Their row numbers in the examples given to `fit`, in main memory.
        inputs: One tensor per input of the model.
        labels: See `Examples.labels`.
        raw_labels: As the reader gave them.
        geometry: What the pre-processing noted about each.
        augmented: Whether the inputs differ from the examples.
    """

    rows: Tensor
    inputs: tuple[Tensor, ...]
    labels: Tensor | None
    raw_labels: Sequence[Any]
    geometry: Sequence[Mapping[str, Any]]
    augmented: bool


class Objective(Protocol):
    """What a training wants."""

    @property
    def title(self) -> str:
        """Of the score: `top-1`, `agreement`, `-loss`."""

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Returns a scalar: the mean over the batch."""

    def score(self, network: nn.Module, batch: Batch) -> tuple[float, int]:
        """Returns the sum of the samples' scores, and their number; higher is better. Without gradients."""


Groups = Callable[[nn.Module], list[dict[str, Any]]]


def fit(
    network: nn.Module,
    examples: Examples,
    objective: Objective,
    regime: Regime,
    context: Context,
    *,
    groups: Groups | None = None,
    name: str = "training",
    keep_start: bool = True,
) -> History:
    """Trains every parameter of `network` that requires gradients, in place, and leaves the best epoch's weights.

    A checkpoint at the end of every epoch lets a run that was killed go on; the weights are those of a run that was
    not. Order, augmentation and dropout follow `context.seed` and the epoch alone.

    Args:
        network: In main memory; back there, in `eval` mode, at the end.
        examples: Trained on, but for the share held out for the score.
        objective: Loss and score.
        regime: How long and how fast.
        context: Seed, scratch folder, progress.
        groups: Returns parameter groups of the optimiser; weights of two axes or more decay where None.
        name: Of the checkpoint; a pass that trains more than once gives each its own.
        keep_start: Leave the weights as they were where no epoch scores as well. Not for labels that the model may have
            been trained on before: it knows the held-out samples by heart, and training only makes it forget them.

    Raises:
        StepFailed: The loss is not finite, or memory is not enough.
        ConfigError: The accelerator asked for is not there; an augmentation does not fit.
    """
    where = accelerator(regime.fit)
    with where.repeatable():
        try:
            return _Training(network, examples, objective, regime, context, where, groups, name).run(keep_start)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _memory(error):
                raise
            raise StepFailed(
                f"not enough memory to train with batches of {regime.batch}: {str(error).splitlines()[0]}",
                hint=f"use a smaller batch, such as {max(regime.batch // 2, 1)}",
            ) from error
        finally:
            norms.freeze(network, frozen=False)
            network.to("cpu").eval()


class _Training:
    """One call of `fit`."""

    def __init__(
        self,
        network: nn.Module,
        examples: Examples,
        objective: Objective,
        regime: Regime,
        context: Context,
        where: Accelerator,
        groups: Groups | None,
        name: str,
    ) -> None:
        self.network, self.examples, self.objective = network, examples, objective
        self.regime, self.context, self.where = regime, context, where
        self.layout = _prepare(network, where)
        self.train_rows, self.held_rows = _divided(len(examples), regime.fit.validation, context.seed)
        self.steps = -(-len(self.train_rows) // regime.batch)
        self.augment = augmentations(regime.fit.augment, examples)
        _check_norms(network, regime, len(self.train_rows) // self.steps)
        norms.freeze(network, frozen=regime.fit.batch_norm == "frozen")
        self.optimiser = _optimiser(network, regime, groups)
        self.scaler = torch.amp.GradScaler(where.device.type, enabled=where.scales)
        self.zeros = Zeros.found(network) if regime.fit.keep_zeros else Zeros({})
        self.path = context.scratch / f"{name}.pt"
        self.ticked = 0.0

    def run(self, keep_start: bool) -> History:
        done = checkpoint.restore(self.path, self.network, self.optimiser, self.scaler)
        if done is None:
            start = self._score()
            done = checkpoint.Progress([], start, -1, start if keep_start else None, checkpoint.copied(self.network))
        while len(done.epochs) < self.regime.epochs and not self._stopped(done):
            self._epoch(done)
            checkpoint.save(self.path, done, self.network, self.optimiser, self.scaler)
        self.network.load_state_dict(done.best_state)
        held = len(self.held_rows)
        return History(
            self.objective.title, done.start, tuple(done.epochs), done.best, len(self.train_rows), held,
            self.where.title, self._stopped(done) if len(done.epochs) < self.regime.epochs else "",
        )  # fmt: skip

    def _epoch(self, done: checkpoint.Progress) -> None:
        index = len(done.epochs)
        loss = self._train(index, done)
        score = self._score()
        done.epochs.append(Epoch(loss, score, self.optimiser.param_groups[0]["lr"]))
        if score is None or done.best_score is None or score >= done.best_score:
            done.best, done.best_score, done.best_state = index, score, checkpoint.copied(self.network)
        self._say(done, 1.0, loss, 0)

    def _stopped(self, done: checkpoint.Progress) -> str:
        patience = self.regime.fit.patience
        waited = len(done.epochs) - 1 - done.best
        return f"no better {self.objective.title} in {waited} epochs" if patience and waited >= patience else ""

    def _train(self, epoch: int, done: checkpoint.Progress) -> float:
        """Trains one epoch and returns its mean loss."""
        seed = _seed(self.context.seed, epoch)
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        order = self.train_rows[torch.randperm(len(self.train_rows), generator=generator)]
        self.network.train()
        losses = _Losses(epoch, self.regime)
        for step, rows in enumerate(order.tensor_split(self.steps)):
            batch = _batch(self.examples, rows, self, generator)
            self._step(epoch * self.steps + step, batch, losses)
            if time.monotonic() - self.ticked >= _TICK_SECONDS:
                self._say(done, (step + 1) / self.steps, losses.mean(), 1)
        return losses.mean()

    def _step(self, step: int, batch: Batch, losses: _Losses) -> None:
        fit = self.regime.fit
        share = factor(step, self.steps * self.regime.epochs, fit.schedule, fit.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * share
        with self.where.autocast():
            loss = self.objective.loss(self.network, batch)
        losses.add(loss.detach(), len(batch.rows))
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if fit.clip_norm:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.network.parameters(), fit.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.zeros.put_back()

    def _score(self) -> float | None:
        if not len(self.held_rows):
            return None
        self.network.eval()
        total, count = 0.0, 0
        with torch.no_grad(), self.where.autocast():
            for rows in torch.split(self.held_rows, self.regime.batch):
                value, samples = self.objective.score(self.network, _batch(self.examples, rows, self))
                total, count = total + value, count + samples
        return total / max(count, 1)

    def _say(self, done: checkpoint.Progress, share: float, loss: float, ahead: int) -> None:
        """Reports progress; `ahead` is 1 while the epoch is not finished."""
        index, epochs = len(done.epochs) + ahead, self.regime.epochs
        score = done.epochs[-1].score if done.epochs else done.start
        shown = "" if score is None else f", {self.objective.title} {_shown(self.objective.title, score)}"
        self.context.progress(
            min((index - 1 + share) / epochs, 1.0), f"epoch {index} of {epochs}, loss {loss:.4g}{shown}"
        )
        self.ticked = time.monotonic()


class _Losses:
    """Mean loss of an epoch, read from the accelerator now and then."""

    def __init__(self, epoch: int, regime: Regime) -> None:
        self.epoch, self.regime = epoch, regime
        self.waiting: list[tuple[Tensor, int]] = []
        self.total, self.count, self.steps = 0.0, 0, 0

    def add(self, loss: Tensor, samples: int) -> None:
        self.waiting.append((loss, samples))
        if len(self.waiting) >= _READ_STEPS:
            self._read()

    def mean(self) -> float:
        self._read()
        return self.total / max(self.count, 1)

    def _read(self) -> None:
        if not self.waiting:
            return
        values = torch.stack([loss for loss, _ in self.waiting]).float().tolist()
        for value, (_, samples) in zip(values, self.waiting, strict=True):
            self.steps += 1
            if not isfinite(value):
                rate = self.regime.learning_rate
                raise StepFailed(
                    f"the loss is {value} at step {self.steps} of epoch {self.epoch + 1} (learning_rate = {rate:g})",
                    hint=f"lower the learning rate, such as {rate / 10:g}, or set fit.clip_norm = 1.0",
                )
            self.total, self.count = self.total + value * samples, self.count + samples
        self.waiting.clear()


def _batch(examples: Examples, rows: Tensor, training: _Training, generator: torch.Generator | None = None) -> Batch:
    """Gathers samples; augments them where a generator is given."""
    device = training.where.device
    inputs = tuple(tensor[rows] for tensor in examples.inputs)
    augment: Augmentation | None = None
    if generator is not None and training.augment is not None:
        augment = training.augment
        inputs = augment(inputs, generator)
    if device.type == "cuda":
        inputs = tuple(tensor.pin_memory() for tensor in inputs)
    inputs = tuple(training.layout(tensor.to(device, non_blocking=True)) for tensor in inputs)
    labels = None if examples.labels is None else examples.labels[rows].to(device, non_blocking=True)
    numbers = rows.tolist()
    return Batch(
        rows,
        inputs,
        labels,
        [examples.raw_labels[row] for row in numbers],
        [examples.geometry[row] for row in numbers],
        augment is not None,
    )


def _prepare(network: nn.Module, where: Accelerator) -> Callable[[Tensor], Tensor]:
    """Moves `network` and returns what brings inputs into the memory layout that its convolutions like."""
    network.to(where.device)
    if not any(parameter.dim() == 4 for parameter in network.parameters()):
        return lambda tensor: tensor
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda tensor: tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _divided(count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the rows to train on and those held out, the same for the same seed."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_seed(seed, -1)))
    held = round(count * share)
    if held >= count:
        raise DataError(
            f"{count} sample(s) leave none to train on", hint="give more samples, or set fit.validation = 0"
        )
    return order[held:], order[:held].sort().values


def _seed(seed: int, epoch: int) -> int:
    """Returns another seed for every epoch."""
    return (seed * 1_000_003 + epoch + 1) % (1 << 63)


def _optimiser(network: nn.Module, regime: Regime, groups: Groups | None) -> torch.optim.Optimizer:
    fit, rate = regime.fit, regime.learning_rate
    given = groups(network) if groups is not None else _decaying(network, fit.weight_decay)
    made: torch.optim.Optimizer
    if fit.optimiser == "sgd":
        turn, decay = fit.momentum, fit.weight_decay
        made = torch.optim.SGD(given, rate, turn, weight_decay=decay, nesterov=turn > 0, fused=True)
    else:
        kind = torch.optim.AdamW if fit.optimiser == "adamw" else torch.optim.Adam
        made = kind(given, lr=rate, weight_decay=fit.weight_decay, fused=True)
    for group in made.param_groups:
        group.setdefault("initial_lr", group["lr"])
    return made


def _decaying(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("the model has no weights to train", hint="give a float model that stores its weights")
    wide = [parameter for parameter in trained if parameter.dim() >= 2]
    narrow = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [{"params": wide, "weight_decay": decay}, {"params": narrow, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _check_norms(network: nn.Module, regime: Regime, smallest: int) -> None:
    if smallest < 2 and regime.fit.batch_norm == "train" and norms.has_trainable(network):
        raise ConfigError(
            "batch norm cannot learn its statistics from batches of one sample",
            hint='use a larger batch, or fit = {batch_norm = "frozen"}',
        )


def _shown(title: str, score: float) -> str:
    return f"{100 * score:.1f}%" if title in _SHARES else f"{score:.4g}"


def _memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
