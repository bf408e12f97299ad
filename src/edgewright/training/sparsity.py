"""Zeros that training keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LEAST = 0.25
"""Weights with a smaller share of zeros have them by chance."""


@dataclass(frozen=True, slots=True, eq=False)
class Zeros:
    """Where weights are zero on purpose: pruned filters, 2:4 patterns.

    Attributes:
        kept: Parameter -> 1 where it may change, 0 where it stays zero.
    """

    kept: Mapping[nn.Parameter, Tensor]

    @classmethod
    def found(cls, network: nn.Module) -> Zeros:
        """Finds the trainable weights of two axes or more of which a quarter or more, not all, is exactly zero.

        A weight that is zero throughout is one that training starts from.
        """
        wide = [p for p in network.parameters() if p.requires_grad and p.dim() >= 2]
        return cls({p: (p != 0).to(p.dtype) for p in wide if LEAST <= (p == 0).float().mean().item() < 1})

    def put_back(self) -> None:
        """Zeroes them again, after a step of the optimiser."""
        with torch.no_grad():
            for parameter, kept in self.kept.items():
                parameter.mul_(kept)
