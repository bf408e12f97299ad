"""A small transformer encoder that files a customer's question under one of 77 intents."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CLASSES = 77
VOCABULARY = 4000
LENGTH = 48  # tokens; 99% of the queries are shorter
PADDING = 0
WIDTH = 128
HEADS = 4
LAYERS = 2


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) that looks away from padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(width // heads)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Maps [batch, tokens, width] to the same; `bias` [batch, 1, 1, tokens] is very negative on padding."""
        batch, tokens, width = x.shape
        shape = (batch, tokens, self.heads, width // self.heads)
        query, key, value = (f(x).view(shape).transpose(1, 2) for f in (self.query, self.key, self.value))
        weights = (query @ key.transpose(2, 3) * self.scale + bias).softmax(3)
        y: Tensor = self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))
        return y


class Layer(nn.Module):
    """Pre-norm encoder layer."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention(WIDTH, HEADS)
        self.widen, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Maps [batch, tokens, width] to the same."""
        x = x + self.dropout(self.attention(self.norm1(x), bias))
        y: Tensor = x + self.dropout(self.narrow(self.widen(self.norm2(x)).relu()))
        return y


class Classifier(nn.Module):
    """Embedding, encoder layers, mean and maximum over the tokens, linear head."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH, padding_idx=PADDING)
        self.position = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * WIDTH, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps token numbers [batch, tokens] to logits [batch, 77]."""
        real = (ids != PADDING).float()
        bias = ((real - 1) * 1e4)[:, None, None, :]
        x = self.dropout(self.embed(ids) + self.position[: ids.shape[1]])
        for layer in self.layers:
            x = layer(x, bias)
        x = self.norm(x) * real[:, :, None]
        mean = x.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        peak = (x + bias[:, 0, 0, :, None]).amax(1)
        logits: Tensor = self.head(self.dropout(torch.cat((mean, peak), 1)))
        return logits


def classifier(dropout: float = 0.0) -> nn.Module:
    """Returns the network without weights; the checkpoint brings them."""
    return Classifier(dropout)
