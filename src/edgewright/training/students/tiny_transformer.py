"""A small pre-norm encoder (Vaswani et al. 2017) over tokens: mean over the tokens that count, then a linear head."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from edgewright.training.students.interface import Interface, classes, frames, tokens
from edgewright.training.students.layers import divisible, ending, initialised

_WIDTH = 128
_PER_HEAD = 32
_LAYERS = 2
_FAR = 1e4


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(width // _PER_HEAD, 1)
        self.scale = 1 / math.sqrt(width // self.heads)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Maps [batch, tokens, width] to the same; `bias` [batch, 1, 1, tokens] is very negative on padding."""
        query, key, value = (
            f(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) * self.scale
        weights = (scores if bias is None else scores + bias).softmax(3)
        y: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return y


class Layer(nn.Module):
    """Attention and two linear layers, each behind a LayerNorm and around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Maps [batch, tokens, width] to the same."""
        x = x + self.attention(self.norm1(x), bias)
        y: Tensor = x + self.narrow(self.widen(self.norm2(x)).relu())
        return y


class Encoder(nn.Module):
    """Tokens to classes; a second input is a mask, 1 where a token counts, and further inputs are left unread."""

    def __init__(self, interface: Interface, width: int) -> None:
        super().__init__()
        length, found = tokens(interface), frames(interface)
        assert length is not None
        self.padding, self.masked = interface.padding, len(interface.inputs) > 1
        self.table = nn.Embedding(interface.vocabulary, width)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.layers = nn.ModuleList(Layer(width) for _ in range(_LAYERS))
        self.norm, self.per_token = nn.LayerNorm(width), found is not None
        self.head = nn.Linear(width, found.classes if found is not None else classes(interface) or 0)
        self.ending = ending(interface)

    def forward(self, ids: Tensor, mask: Tensor | None = None, *_: Tensor) -> Tensor:
        """Maps token numbers [batch, tokens] to [batch, classes] or [batch, tokens, classes]."""
        real = self._real(ids, mask)
        bias = None if real is None else ((real - 1) * _FAR)[:, None, None, :]
        x = self.table(ids) + self.position[: ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x)
        y: Tensor = self.ending(self.head(x if self.per_token else _mean(x, real)))
        return y

    def _real(self, ids: Tensor, mask: Tensor | None) -> Tensor | None:
        """Returns 1 where a token counts; None where all do."""
        if self.masked and mask is not None:
            return mask.float()
        return None if self.padding is None else (ids != self.padding).float()


def _mean(x: Tensor, real: Tensor | None) -> Tensor:
    if real is None:
        return x.mean(1)
    return (x * real[:, :, None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    channels = divisible(_WIDTH * width, _PER_HEAD if width >= 0.5 else 8)
    return initialised(Encoder(interface, channels))
