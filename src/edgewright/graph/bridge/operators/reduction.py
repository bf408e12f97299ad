"""Reductions over axes; axes are an attribute or an input, all of them when left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, axes_of, ints, widened

_Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


@widened
def reduce_sum(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_sum, None, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_mean(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_mean, None, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_prod(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_product, None, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_max(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_maximum, None, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_min(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_minimum, None, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_l1(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_l1, torch.abs, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_l2(data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    return _reduce(_l2, torch.abs, data, axes, keepdims, noop_with_empty_axes)


@widened
def reduce_sum_square(
    data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(_sum_square, torch.square, data, axes, keepdims, noop_with_empty_axes)


def reduce_log_sum(
    data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(_log_sum, torch.log, data, axes, keepdims, noop_with_empty_axes)


def reduce_log_sum_exp(
    data: Tensor, axes: Ints | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    return _reduce(_log_sum_exp, None, data, axes, keepdims, noop_with_empty_axes)


def _reduce(
    function: _Reduce,
    alone: Callable[[Tensor], Tensor] | None,
    data: Tensor,
    axes: Ints | None,
    keepdims: int,
    noop_with_empty_axes: int,
) -> Tensor:
    """Reduces by `function`; `alone` is what a reduction over no axes does to each element."""
    chosen = None if axes is None or not ints(axes) else axes
    if chosen is None and noop_with_empty_axes:
        return data if alone is None else alone(data)
    if data.dim() == 0:
        return function(data.reshape(1), (0,), False).reshape(())
    return function(data, axes_of(chosen, data.dim()), bool(keepdims))


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(dims, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(dims, keepdim=keep)
    return x.double().mean(dims, keepdim=keep).trunc().to(x.dtype)


def _product(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(dims, reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _maximum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.amax(dims, keepdim=keep) if _any(x, dims) else _filled(x, dims, keep, _bounds(x.dtype)[0])


def _minimum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return x.amin(dims, keepdim=keep) if _any(x, dims) else _filled(x, dims, keep, _bounds(x.dtype)[1])


def _l1(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), dims, keep)


def _l2(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    wide = x if x.is_floating_point() else x.double()
    norm: Tensor = torch.linalg.vector_norm(wide, dim=dims, keepdim=keep)
    return norm.to(x.dtype)


def _sum_square(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.square(), dims, keep)


def _log_sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x, dims, keep).log()


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, dims, keepdim=keep)


def _any(x: Tensor, dims: tuple[int, ...]) -> bool:
    return all(x.shape[axis] for axis in dims)


def _filled(x: Tensor, dims: tuple[int, ...], keep: bool, value: float) -> Tensor:
    sizes = [1 if axis in dims else size for axis, size in enumerate(x.shape) if keep or axis not in dims]
    return x.new_full(sizes, value)


def _bounds(dtype: torch.dtype) -> tuple[float, float]:
    if dtype == torch.bool:
        return 0, 1
    return (-torch.inf, torch.inf) if dtype.is_floating_point else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


OPERATORS: dict[str, Callable[..., Any]] = {
    "ReduceL1": reduce_l1,
    "ReduceL2": reduce_l2,
    "ReduceLogSum": reduce_log_sum,
    "ReduceLogSumExp": reduce_log_sum_exp,
    "ReduceMax": reduce_max,
    "ReduceMean": reduce_mean,
    "ReduceMin": reduce_min,
    "ReduceProd": reduce_prod,
    "ReduceSum": reduce_sum,
    "ReduceSumSquare": reduce_sum_square,
}
