"""Fake quantisation: forward as ONNX rounds and saturates, bit for bit, backward as LSQ and LSQ+ say.

Sources: Esser et al. 2020, "Learned step size quantization" (the gradients of values and steps); Bhalgat et al. 2020,
"LSQ+: improving low-bit quantization through learnable offsets and better initialization" (the gradient of the offset,
here of the zero point, which is an integer in the forward pass).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def fake_quantise(x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, gain: Tensor) -> Tensor:
    """Returns DequantizeLinear(QuantizeLinear(x)) in float32.

    With v = x / scale and bounds low - zero and high - zero, the gradients are, for every element:
    x: 1 inside of the bounds, 0 on and outside of them;
    scale: round(v) - v inside, the bound that was hit outside (Esser et al. 2020, equation 3);
    zero: 0 inside, -scale outside (Bhalgat et al. 2020, equation 5, for the offset -scale x zero).

    Args:
        x: Real values, float32.
        scale: Positive; broadcasts over `x`.
        zero: Integer zero points as float32, of the shape of `scale`.
        low: Smallest integer.
        high: Largest integer.
        gain: What the gradients of `scale` and `zero` are multiplied with; broadcasts over `scale`.
    """
    return cast(Tensor, _FakeQuantise.apply(x, scale, zero, low, high, gain))  # type: ignore[no-untyped-call, unused-ignore]


def rounded_through(x: Tensor, low: int, high: int) -> Tensor:
    """Rounds half to even between two integers; the gradient passes where `x` lies between them."""
    bounded = x.clamp(low, high)
    return bounded + (bounded.round() - bounded).detach()


class _FakeQuantise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: int, high: int, gain: Tensor) -> Tensor:
        lower, upper = low - zero, high - zero
        y = torch.div(x, scale).round_()
        torch.clamp(y, lower, upper, out=y)
        y.mul_(scale)
        ctx.save_for_backward(x, y, scale, lower, upper, gain)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, y, scale, lower, upper, gain = ctx.saved_tensors
        inside = (x > lower * scale).logical_and_(x < upper * scale)
        within = grad * inside
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return within, None, None, None, None, None
        outside = grad - within
        steps = _sum(within, y - x, scale) + _sum(outside, y, scale)
        of_zero = None
        if ctx.needs_input_grad[2]:
            of_zero = -_sum(outside, torch.ones((), dtype=y.dtype, device=y.device), scale) * scale * gain
        return within, steps / scale * gain, of_zero, None, None, None


def _sum(left: Tensor, right: Tensor, like: Tensor) -> Tensor:
    """Adds up products over all axes along which `like` is broadcast."""
    if like.numel() > 1:
        return (left * right).sum_to_size(like.shape)
    if left.stride() == right.stride() and left.shape == right.shape and _dense(left):
        return torch.dot(_flat(left), _flat(right)).reshape(like.shape)
    return (left * right).sum().reshape(like.shape)


def _dense(x: Tensor) -> bool:
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _flat(x: Tensor) -> Tensor:
    """All elements in the order of memory."""
    return x.as_strided((x.numel(),), (1,))
