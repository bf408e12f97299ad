"""What the functions of operators share: kinds of arguments, axes, numbers out of tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from edgewright.graph.bridge.elements import WIDE_UNSIGNED

Ints: TypeAlias = "Sequence[int] | int | Tensor"
Floats: TypeAlias = "Sequence[float] | float | Tensor"
Number: TypeAlias = "float | Tensor"
Place: TypeAlias = "int | Tensor"
Buffer: TypeAlias = Tensor


def ints(value: Ints) -> list[int]:
    """Returns the integers of an input that is fixed by the model, or of a tensor computed by it."""
    found = value.tolist() if isinstance(value, Tensor) else value
    return [int(v) for v in found] if isinstance(found, Sequence) else [int(found)]


def floats(value: Floats) -> list[float]:
    """Returns the numbers of an input as floats."""
    found = value.tolist() if isinstance(value, Tensor) else value
    return [float(v) for v in found] if isinstance(found, Sequence) else [float(found)]


def axes_of(value: Ints | None, rank: int) -> tuple[int, ...]:
    """Returns axes counted from the front; all of them for None."""
    return tuple(range(rank)) if value is None else tuple(axis % rank if rank else 0 for axis in ints(value))


def widened(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Lets `function` compute unsigned integers of 16 to 64 bits in `int64` and wraps the result back.

    Sums, differences and products are exact modulo 2^64; the rest is exact for values below 2^63.
    """

    @functools.wraps(function)
    def inner(*inputs: Any, **attributes: Any) -> Tensor:
        dtype = next((x.dtype for x in inputs if isinstance(x, Tensor) and x.dtype in WIDE_UNSIGNED), None)
        if dtype is None:
            return function(*inputs, **attributes)
        wide = [x.to(torch.int64) if isinstance(x, Tensor) and x.dtype == dtype else x for x in inputs]
        result = function(*wide, **attributes)
        return result.to(dtype) if result.dtype == torch.int64 else result

    return inner
