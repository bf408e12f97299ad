"""Figures about arrays: how much of one is left in another, per column, per channel. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LOST_DB, EXACT_DB = -60.0, 200.0
_TINY = 1e-20


def ratio_db(reference: Array, found: Array) -> float:
    """Returns the signal to noise ratio of `found` in dB, between `LOST_DB` and `EXACT_DB`."""
    if reference.shape != found.shape or not np.isfinite(found).all():
        return LOST_DB
    wanted = reference.astype(np.float64)
    noise = float(np.square(wanted - found).mean())
    signal = float(np.square(wanted).mean())
    if noise <= _TINY * max(signal, _TINY):
        return EXACT_DB
    return float(np.clip(10 * np.log10(max(signal, _TINY) / noise), LOST_DB, EXACT_DB))


def columns_db(reference: Array, found: Array) -> float:
    """Returns what is left of an output in dB, every column of its last axis counting alike.

    A detector's boxes reach 640 and its scores 1: an error that wipes out the scores is nothing beside the boxes. So
    the noise of each column is taken relative to its own variation over samples and positions.
    """
    if reference.shape != found.shape or not np.isfinite(found).all():
        return LOST_DB
    wanted = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
    noise = np.square(wanted - found.reshape(wanted.shape)).mean(0)
    varied = wanted.var(0)
    alive = varied > 1e-6 * max(float(varied.max(initial=0.0)), _TINY) if wanted.shape[1] < 2 else varied > _TINY
    if not alive.any():
        return ratio_db(reference, found)
    share = float(np.minimum(noise[alive] / varied[alive], 1e6).mean())
    return EXACT_DB if share <= _TINY else float(np.clip(-10 * np.log10(share), LOST_DB, EXACT_DB))


def channel_axis(values: Array, op: str) -> int:
    """Returns the axis of the channels of what `op` made, batch axis included."""
    last = op in ("MatMul", "Gemm", "Gather", "LayerNormalization", "Softmax") or values.ndim <= 2
    return values.ndim - 1 if last else 1


def channel_largest(values: Array, axis: int) -> Array:
    """Returns the largest magnitude of every channel."""
    others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
    return np.asarray(np.abs(values).max(axis=others))


def rounded(values: Array, scale: Array, zero: Array, low: int, high: int, axis: int | None = None) -> Array:
    """Returns what a quantiser leaves of `values`."""
    shape = [1] * values.ndim
    if axis is not None and scale.size > 1:
        shape[axis] = -1
    step, offset = scale.reshape(shape if scale.size > 1 else ()), zero.reshape(shape if zero.size > 1 else ())
    integers = np.clip(np.rint(values / step) + offset, low, high)
    return np.asarray((integers - offset) * step)


def agreement(reference: Array, found: Array) -> float:
    """Returns the share of samples whose largest column is the same."""
    if reference.shape != found.shape:
        return 0.0
    one = reference.reshape(-1, reference.shape[-1]).argmax(-1)
    other = np.nan_to_num(found).reshape(-1, found.shape[-1]).argmax(-1)
    return float((one == other).mean())


def correlations(reference: Array, found: Array) -> Array:
    """Returns the correlation of every column of `reference` with every column of `found`; 0 where one is constant."""
    one = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
    other = np.nan_to_num(found.reshape(-1, found.shape[-1])).astype(np.float64)
    one, other = one - one.mean(0), other - other.mean(0)
    norms = np.linalg.norm(one, axis=0)[:, None] * np.linalg.norm(other, axis=0)[None]
    return np.where(norms > _TINY, one.T @ other / np.maximum(norms, _TINY), 0.0)
