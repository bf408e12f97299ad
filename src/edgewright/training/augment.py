"""Augmentation of batches, on tensors in main memory, drawn from a generator so that a seed repeats it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from edgewright.data import load_function
from edgewright.errors import ConfigError, StepFailed
from edgewright.training.examples import Examples

Inputs = tuple[Tensor, ...]
Augmentation = Callable[[Inputs, Generator], Inputs]


def flip(x: Tensor, generator: Generator, *, axis: int | None = None, share: float = 0.5) -> Tensor:
    """Mirrors a share of the samples along `axis` (counted with the batch); the width of images by default."""
    along = _width(x) if axis is None else axis
    mirrored = torch.rand(len(x), generator=generator) < share
    return torch.where(mirrored.view(-1, *[1] * (x.dim() - 1)), x.flip(along), x)


def crop(x: Tensor, generator: Generator, *, pixels: int = 2) -> Tensor:
    """Moves every image by up to `pixels` along height and width; zeros come in."""
    width = _width(x)
    for axis in (width - 1, width):
        x = _moved(x, generator, axis, pixels)
    return x


def shift(x: Tensor, generator: Generator, *, axis: int = -1, steps: int = 1) -> Tensor:
    """Moves every sample by up to `steps` along `axis` (counted with the batch), such as time; zeros come in."""
    return _moved(x, generator, axis % x.dim(), steps)


def noise(x: Tensor, generator: Generator, *, scale: float = 0.05) -> Tensor:
    """Adds Gaussian noise whose spread is `scale` times that of the batch."""
    return x + torch.randn(x.shape, generator=generator, dtype=x.dtype) * (x.std() * scale)


def cutout(x: Tensor, generator: Generator, *, pixels: int = 8) -> Tensor:
    """Sets one square of `pixels` by `pixels` of every image to zero (DeVries and Taylor 2017)."""
    width = _width(x)
    outside = torch.zeros((), dtype=torch.bool)
    for axis in (width - 1, width):
        centre = (torch.rand(len(x), generator=generator) * x.shape[axis]).long()
        away = (torch.arange(x.shape[axis]) - centre[:, None]).abs() * 2 >= pixels
        shape = [len(x), *[1] * (x.dim() - 1)]
        shape[axis] = x.shape[axis]
        outside = outside | away.view(shape)
    return x * outside


def mask_tokens(
    x: Tensor, generator: Generator, *, share: float = 0.1, token: int = 0, keep: Sequence[int] = (0,)
) -> Tensor:
    """Replaces a share of the token ids by `token`, but for ids in `keep` (padding, separators)."""
    hit = torch.rand(x.shape, generator=generator) < share
    fixed = torch.isin(x, torch.tensor(list(keep), dtype=x.dtype))
    return torch.where(hit & ~fixed, torch.tensor(token, dtype=x.dtype), x)


def mixup(x: Tensor, generator: Generator, *, share: float = 0.5) -> Tensor:
    """Blends a share of the samples with another one of the batch, in random parts (Zhang et al. 2018).

    A label says nothing of a blend, but a teacher does (Beyer et al. 2022): for distillation without labels.
    """
    other = x[torch.randperm(len(x), generator=generator)]
    part = torch.rand(len(x), generator=generator)
    part = torch.where(torch.rand(len(x), generator=generator) < share, part, 1.0)
    return torch.lerp(other, x, part.view(-1, *[1] * (x.dim() - 1)).to(x.dtype))


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "flip": flip,
    "crop": crop,
    "shift": shift,
    "noise": noise,
    "cutout": cutout,
    "mask-tokens": mask_tokens,
    "mixup": mixup,
}


_MOVING = ("flip", "crop", "shift", "cutout")


def augmentations(tables: Sequence[Mapping[str, Any]], examples: Examples) -> Augmentation | None:
    """Returns what applies the operations of `tables` in order to the inputs of a batch; None where there are none.

    A table has `op`, `input` (position of the model's input, 0 by default), and the keywords of its operation. An
    `op` of the form `module:function` is called as function(tensor, generator, **keywords).

    Raises:
        ConfigError: A keyword is unknown, the input is not of its kind, or the operation would move what the labels
            describe (boxes, masks, values).
    """
    if not tables:
        return None
    made = [_operation(table, examples) for table in tables]

    def augment(inputs: Inputs, generator: Generator) -> Inputs:
        changed = list(inputs)
        for position, function in made:
            changed[position] = function(changed[position], generator)
        return tuple(changed)

    return augment


def _operation(table: Mapping[str, Any], examples: Examples) -> tuple[int, Callable[[Tensor, Generator], Tensor]]:
    given = dict(table)
    name, position = str(given.pop("op", "")), int(given.pop("input", 0))
    if not 0 <= position < len(examples.inputs):
        count = len(examples.inputs)
        raise ConfigError(f'augment "{name}": input = {position}, the model has {count}', hint="count from 0")
    if ":" in name:
        return position, _own(name, load_function(name, examples.root, f"augment {name}"), given)
    function = OPERATIONS[name]
    if name in _MOVING and examples.labelled and not _classes(examples):
        message = f'augment "{name}" moves the input, and the labels are more than a class per sample'
        raise ConfigError(message, hint="write an augmentation of your own that leaves them true: module:function")
    if name == "mixup" and examples.labelled:
        hint = "distil without labels, from unlabelled samples, or leave it out"
        raise ConfigError('augment "mixup" blends samples, and a label says nothing of a blend', hint=hint)
    known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if strange := sorted(set(given) - set(known)):
        raise ConfigError(f'augment "{name}" has no {", ".join(strange)}', hint=f"it has {', '.join(known)}")
    _require_kind(name, examples.inputs[position])
    return position, lambda x, generator: function(x, generator, **given)


def _classes(examples: Examples) -> bool:
    labels = examples.labels
    return labels is not None and labels.dim() == 1 and not labels.is_floating_point()


def _own(name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> Callable[[Tensor, Generator], Tensor]:
    def call(x: Tensor, generator: Generator) -> Tensor:
        try:
            changed = function(x, generator, **given)
        except Exception as error:
            message = f"augment {name} raised {type(error).__name__}: {error}"
            raise StepFailed(message, hint="it is called as function(tensor, generator, **keywords)") from error
        if not isinstance(changed, Tensor) or changed.shape != x.shape or changed.dtype != x.dtype:
            message = f"augment {name} did not return a tensor {list(x.shape)} of {x.dtype}"
            raise StepFailed(message, hint="return a tensor of the same shape and type")
        return changed

    return call


def _require_kind(name: str, x: Tensor) -> None:
    floating = name != "mask-tokens"
    axes = 4 if name in ("crop", "cutout") else 2
    if x.is_floating_point() != floating or x.dim() < axes:
        kind = "integer token ids" if not floating else "images" if axes == 4 else "floating numbers"
        message = f'augment "{name}" is for {kind}, the input holds {x.dtype} {list(x.shape[1:])}'
        raise ConfigError(message, hint="leave it out, or name another input")


def _width(x: Tensor) -> int:
    """Returns the axis of an image's width: the last, or the one before where the last are its channels."""
    last = x.dim() == 4 and x.shape[-1] in (1, 3, 4) and x.shape[1] not in (1, 3, 4)
    return x.dim() - 2 if last else x.dim() - 1


def _moved(x: Tensor, generator: Generator, axis: int, most: int) -> Tensor:
    by = torch.randint(-most, most + 1, (len(x),), generator=generator)
    source = torch.arange(x.shape[axis]) - by[:, None]
    shape = [len(x), *[1] * (x.dim() - 1)]
    shape[axis] = x.shape[axis]
    inside = ((source >= 0) & (source < x.shape[axis])).view(shape)
    taken = source.clamp(0, x.shape[axis] - 1).view(shape).expand(x.shape)
    return x.gather(axis, taken) * inside
