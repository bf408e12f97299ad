"""Attention over heads, [batch, heads, length, size] or [batch, length, heads * size]."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.elements import torch_dtype


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """A query that may attend no key gives zeros. Modes 0 to 3: scores raw, capped, masked, as probabilities."""
    flat = q.dim() == 3
    if flat:
        q, k, v = _heads(q, q_num_heads), _heads(k, kv_num_heads), _heads(v, kv_num_heads)
    k = k if past_key is None else torch.cat([past_key, k], 2)
    v = v if past_value is None else torch.cat([past_value, v], 2)
    offset = _offset(q, past_key, nonpad_kv_seqlen)
    bias, seen = _bias(q, k, attn_mask, nonpad_kv_seqlen)
    seen = seen & _visible(q, k, offset, bool(is_causal), left_window_size, right_window_size)
    factor = math.sqrt(scale if scale is not None and scale != 0 else 1 / math.sqrt(q.shape[-1]))
    groups = q.shape[1] // k.shape[1]
    keys, values = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    raw = (q * factor) @ (keys * factor).mT
    capped = softcap * torch.tanh(raw / softcap) if softcap else raw
    masked = (capped + bias).masked_fill(~seen, -torch.inf)
    wide = masked if softmax_precision is None else masked.to(torch_dtype(softmax_precision))
    dead = torch.isneginf(wide).all(-1, keepdim=True)
    shares = torch.softmax(wide.masked_fill(dead, 0.0), -1).masked_fill(dead, 0.0).to(q.dtype)
    result = shares @ values
    result = result.transpose(1, 2).flatten(2) if flat else result
    steps = (raw, capped, masked, shares)[qk_matmul_output_mode]
    return result if outputs == 1 else (result, k, v, steps)[:outputs]


def _heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(2, (count, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]


def _offset(q: Tensor, past_key: Tensor | None, lengths: Tensor | None) -> Tensor:
    """How many keys come before the first query, [batch or 1, 1, 1, 1]."""
    if past_key is not None:
        return torch.full((1, 1, 1, 1), past_key.shape[2], device=q.device)
    if lengths is not None:
        return (lengths - q.shape[2]).reshape(-1, 1, 1, 1)
    return torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=q.device)


def _bias(q: Tensor, k: Tensor, mask: Tensor | None, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """What is added to the scores, and which keys take part."""
    total = k.shape[2]
    seen = torch.ones((1, 1, 1, total), dtype=torch.bool, device=q.device)
    if lengths is not None:
        seen = torch.arange(total, device=q.device) < lengths.reshape(-1, 1, 1, 1)
    if mask is None:
        return q.new_zeros(1), seen
    missing = total - mask.shape[-1]
    if mask.dtype == torch.bool:
        padded = F.pad(mask.to(torch.uint8), (0, missing)).bool() if missing else mask
        return q.new_zeros(1), seen & padded
    padded = F.pad(mask, (0, missing), value=-torch.inf) if missing else mask
    return padded.to(q.dtype), seen


def _visible(q: Tensor, k: Tensor, offset: Tensor, causal: bool, left: int, right: int) -> Tensor:
    places = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + offset
    keys = torch.arange(k.shape[2], device=q.device)
    seen = torch.ones_like(keys + places, dtype=torch.bool)
    seen = seen & (keys <= places) if causal else seen
    seen = seen & (keys >= places - left) if left >= 0 else seen
    return seen & (keys <= places + right) if right >= 0 else seen


def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Rotates pairs of features by the angle of their position (Su et al., "RoFormer", 2021)."""
    heads = x.unflatten(2, (num_heads, -1)) if x.dim() == 3 else x.transpose(1, 2)  # type: ignore[no-untyped-call]
    size = rotary_embedding_dim or heads.shape[-1]
    turned, kept = heads[..., :size], heads[..., size:]
    cos, sin = (c if position_ids is None else c[position_ids] for c in (cos_cache, sin_cache))
    cos, sin = cos.unsqueeze(2), sin.unsqueeze(2)
    first, second = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    parts = cos * first - sin * second, sin * first + cos * second
    joined = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    result = torch.cat([joined, kept], -1)
    return result.flatten(2) if x.dim() == 3 else result.transpose(1, 2)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Attention": attention,
    "RotaryEmbedding": rotary_embedding,
}
