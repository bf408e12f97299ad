"""Weights trained relative to their own size, for networks whose batch norm is folded.

Folding leaves channels whose weights differ by orders of magnitude, and nothing that evens out a step that is too
long. An optimiser of the Adam family moves every number by about the learning rate; here it moves numbers of size one,
and the weights follow in proportion, channel by channel (in the spirit of Shazeer and Stern 2018, Adafactor, section 8,
and You et al. 2020, LAMB).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_LEAST = 1e-6
_BIAS = 1e-2
"""Least size of a bias, relative to the largest of its layer's kind: zero would never move."""


class Sized(nn.Module):
    """A parametrisation: what is trained, times a fixed size per channel."""

    size: Tensor

    def __init__(self, size: Tensor) -> None:
        super().__init__()
        self.register_buffer("size", size)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the weights of what is trained."""
        return x * self.size

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Returns what is trained of the weights."""
        return weights / self.size


@contextmanager
def relative_steps(network: nn.Module) -> Iterator[None]:
    """Trains the parameters of `network` relative to their size while the context is open; then they are plain again.

    The size of a weight of two axes or more is the root mean square of its channel (first axis), that of a vector the
    root mean square of all of it.
    """
    owners = [
        (owner, name)
        for owner in network.modules()
        for name, parameter in list(owner.named_parameters(recurse=False))
        if parameter.requires_grad
    ]
    for owner, name in owners:
        parametrize.register_parametrization(owner, name, Sized(_size(getattr(owner, name).detach())))
    try:
        yield
    finally:
        for owner, name in owners:
            parametrize.remove_parametrizations(owner, name, leave_parametrized=True)


def _size(weights: Tensor) -> Tensor:
    if weights.dim() < 2:
        return weights.square().mean().sqrt().clamp(min=_BIAS).expand_as(weights).clone()
    along = tuple(range(1, weights.dim()))
    size = weights.square().mean(along, keepdim=True).sqrt()
    return torch.maximum(size, size.mean() * _BIAS).clamp(min=_LEAST)
