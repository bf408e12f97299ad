"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import widened


@widened
def relu(x: Tensor) -> Tensor:
    return torch.relu(x)


def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """The slope broadcasts to the input as NumPy does."""
    channels = (x.shape[1], *[1] * (x.dim() - 2)) if x.dim() > 1 else ()
    if slope.numel() == 1 or (slope.dim() > 1 and slope.shape in (channels, (1, *channels))):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return torch.where(x > alpha, x, torch.zeros_like(x))


def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return F.celu(x, alpha)


def selu(x: Tensor, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Tensor:
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    return F.gelu(x, approximate=approximate)


def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return torch.clamp(alpha * x + beta, 0, 1)


def hard_swish(x: Tensor) -> Tensor:
    return F.hardswish(x)


def mish(x: Tensor) -> Tensor:
    return F.mish(x)


def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    return x * torch.sigmoid(alpha * x)


def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    return swish(a, alpha=alpha) * b


def softplus(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def softsign(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


@widened
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    result = torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))
    return result.to(x.dtype)


def softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    """Along one axis; before opset 13 over all axes from `axis` on."""
    return _along(torch.softmax, x, axis, opset)


def log_softmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    return _along(torch.log_softmax, x, axis, opset)


def hardmax(x: Tensor, *, axis: int | None = None, opset: int) -> Tensor:
    return _along(_hardmax, x, axis, opset)


def _hardmax(x: Tensor, dim: int) -> Tensor:
    first = x.argmax(dim, keepdim=True)
    return torch.zeros_like(x).scatter(dim, first, 1.0)


def _along(function: Callable[..., Tensor], x: Tensor, axis: int | None, opset: int) -> Tensor:
    if opset >= 13:
        return function(x, dim=-1 if axis is None else axis)
    axis = 1 if axis is None else axis % x.dim()
    return function(x.flatten(axis), dim=-1).reshape(x.shape) if axis < x.dim() else function(x.unsqueeze(-1), dim=-1)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Celu": celu,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Hardmax": hardmax,
    "LeakyRelu": leaky_relu,
    "LogSoftmax": log_softmax,
    "Mish": mish,
    "PRelu": prelu,
    "Relu": relu,
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": torch.sigmoid,
    "Softmax": softmax,
    "Softplus": softplus,
    "Softsign": softsign,
    "SwiGLU": swiglu,
    "Swish": swish,
    "Tanh": torch.tanh,
    "ThresholdedRelu": thresholded_relu,
}
