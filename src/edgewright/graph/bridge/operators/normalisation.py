"""Normalisation, with the statistics that the model stores or computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.elements import torch_dtype
from edgewright.graph.bridge.operators.values import Buffer, Number


def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Buffer,
    var: Buffer,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    spatial: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Training mode also returns the running statistics; the variance is that of the population."""
    if not training_mode:
        if spatial and not (mean.requires_grad or var.requires_grad):
            return F.batch_norm(x, mean, var, scale, b, False, 0.0, epsilon)
        shape = (-1, *[1] * (x.dim() - 2)) if spatial else mean.shape
        mean, var, scale, b = (v.reshape(shape) for v in (mean, var, scale, b))
        return (x - mean) * torch.rsqrt(var + epsilon) * scale + b
    result = F.batch_norm(x, None, None, scale, b, True, 0.0, epsilon)
    if outputs == 1:
        return result
    now_var, now_mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    return result, mean * momentum + now_mean * (1 - momentum), var * momentum + now_var * (1 - momentum)


def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    return torch.instance_norm(x, scale, b, None, None, True, 0.0, epsilon, torch.backends.cudnn.enabled)


def layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Statistics in the type `stash_type`, unless the input is more precise."""
    axes = tuple(range(axis % x.dim(), x.dim()))
    if outputs == 1 and x.dtype in _EXACT and scale.shape == x.shape[axes[0] :] == (scale if b is None else b).shape:
        return F.layer_norm(x, scale.shape, scale, b, epsilon)
    wide = x.to(torch.promote_types(x.dtype, torch_dtype(stash_type)))
    var, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    result = ((wide - mean) * inverse).to(x.dtype) * scale
    result = result if b is None else result + b
    return result if outputs == 1 else (result, mean, inverse)[:outputs]


def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    axes = tuple(range(axis % x.dim(), x.dim()))
    wide = x.to(torch.promote_types(x.dtype, torch_dtype(stash_type)))
    inverse = torch.rsqrt(wide.square().mean(axes, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale


def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1, opset: int
) -> Tensor:
    """Scale and bias of each group before opset 21, of each channel since."""
    if opset < 21:
        repeats = x.shape[1] // num_groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    if x.dtype in _EXACT:
        return torch.group_norm(x, num_groups, scale, bias, epsilon, torch.backends.cudnn.enabled)
    wide = x.to(torch.promote_types(x.dtype, torch_dtype(stash_type)))
    groups = wide.reshape(x.shape[0], num_groups, -1)
    var, mean = torch.var_mean(groups, -1, correction=0, keepdim=True)
    normal = ((groups - mean) * torch.rsqrt(var + epsilon)).reshape(x.shape).to(x.dtype)
    shape = (-1, *[1] * (x.dim() - 2))
    return normal * scale.reshape(shape) + bias.reshape(shape)


_EXACT = (torch.float32, torch.float64)
"""Types whose fused normalisation rounds as ONNX says."""


def lrn(x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Tensor:
    """Squares are summed over `size` neighbouring channels."""
    squares = x.square().transpose(1, -1)
    before, after = (size - 1) // 2, size // 2
    sums = F.pad(squares, (before, after)).unfold(-1, size, 1).sum(-1).transpose(1, -1)
    return x / (bias + alpha / size * sums) ** beta


def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Zero where the norm is zero."""
    norm = torch.linalg.vector_norm(x, ord=p, dim=axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))


def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    var, mean = torch.var_mean(x, tuple(axes), correction=0, keepdim=True)
    return (x - mean) / (var.sqrt() + 1e-9)


def dropout(
    x: Tensor,
    ratio: Number | None = None,
    training_mode: Number | None = None,
    *,
    seed: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """Passes its input on, unless the model asks for training mode."""
    probability = 0.5 if ratio is None else float(ratio)
    if not training_mode or probability == 0:
        return x if outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))
    generator = None if seed is None else torch.Generator(x.device).manual_seed(seed)
    keep = torch.rand(x.shape, generator=generator, device=x.device) >= probability
    result = x * keep / (1 - probability)
    return result if outputs == 1 else (result, keep)


OPERATORS: dict[str, Callable[..., Any]] = {
    "BatchNormalization": batch_normalization,
    "Dropout": dropout,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lp_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
    "RMSNormalization": rms_normalization,
}
