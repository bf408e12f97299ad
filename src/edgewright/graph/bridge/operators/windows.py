"""Windows over the spatial axes: padding, output sizes, and the windows themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.errors import SourceError


@dataclass(frozen=True, slots=True)
class Window:
    """One kernel over the spatial axes, every field one number per axis.

    Attributes:
        kernel: Size.
        strides: Step.
        dilations: Distance between elements.
        begin: Padding before.
        end: Padding after.
        extra: Further elements after it that only `ceil_mode` looks at; they are no padding.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements from the first to the last one under the kernel."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def symmetric(self) -> bool:
        """PyTorch can pad by itself."""
        return self.begin == self.end and not any(self.extra)


def window(
    x: Tensor,
    kernel: Sequence[int],
    *,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Window:
    """Resolves the attributes that convolutions and poolings share, for the sizes of `x`.

    Args:
        x: Input, [batch, channels, spatial...].
        kernel: Sizes of the kernel.
        strides: 1 when None.
        dilations: 1 when None.
        pads: All beginnings, then all ends.
        auto_pad: `NOTSET`, `VALID`, `SAME_UPPER` or `SAME_LOWER`.
        ceil_mode: A last window may hang over the end, if it begins inside the input or its padding.
    """
    rank = len(kernel)
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    pads = tuple(pads or (0,) * (2 * rank))
    begin, end = tuple(pads[:rank]), tuple(pads[rank:])
    plain = Window(tuple(kernel), strides, dilations, begin, end, (0,) * rank)
    sizes = x.shape[2:]
    if auto_pad == "VALID":
        plain = Window(plain.kernel, strides, dilations, (0,) * rank, (0,) * rank, plain.extra)
    elif auto_pad != "NOTSET":
        plain = _same(plain, sizes, lower=auto_pad == "SAME_LOWER")
    return _hanging(plain, sizes) if ceil_mode and auto_pad == "NOTSET" else plain


def pad_spatial(x: Tensor, begin: Sequence[int], end: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the last axes of `x`; negative numbers crop."""
    if not any(begin) and not any(end):
        return x
    widths = [width for pair in zip(reversed(begin), reversed(end), strict=True) for width in pair]
    return F.pad(x, widths, value=value)


def unfold(x: Tensor, shape: Window) -> Tensor:
    """Returns the windows of a padded `x`: [batch, channels, positions..., kernel...]."""
    for axis, (extent, stride) in enumerate(zip(shape.extents, shape.strides, strict=True), start=2):
        x = x.unfold(axis, extent, stride)
    steps = tuple(slice(None, None, d) for d in shape.dilations)
    index: Any = (Ellipsis, *steps)
    return x[index]


def by_rank(functions: dict[int, object], rank: int, what: str) -> object:
    """Returns the function for `rank` spatial axes.

    Raises:
        SourceError: PyTorch has none.
    """
    if rank not in functions:
        raise SourceError(
            f"{what} over {rank} spatial axes, PyTorch has it for {sorted(map(int, functions))}",
            hint="reshape the model's data to at most three spatial axes",
        )
    return functions[rank]


def _same(shape: Window, sizes: Sequence[int], *, lower: bool) -> Window:
    begin, end = [], []
    for size, stride, extent in zip(sizes, shape.strides, shape.extents, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + extent - size, 0)
        begin.append(total - total // 2 if lower else total // 2)
        end.append(total - begin[-1])
    return Window(shape.kernel, shape.strides, shape.dilations, tuple(begin), tuple(end), shape.extra)


def _hanging(shape: Window, sizes: Sequence[int]) -> Window:
    extra = []
    for axis, (size, stride, extent) in enumerate(zip(sizes, shape.strides, shape.extents, strict=True)):
        padded = size + shape.begin[axis] + shape.end[axis]
        count = math.ceil((padded - extent) / stride) + 1
        if (count - 1) * stride >= size + shape.begin[axis]:
            count -= 1
        extra.append(max((count - 1) * stride + extent - padded, 0))
    return Window(shape.kernel, shape.strides, shape.dilations, shape.begin, shape.end, tuple(extra))


def outer_end(shape: Window) -> tuple[int, ...]:
    """Returns padding after the input together with what `ceil_mode` adds."""
    return tuple(e + x for e, x in zip(shape.end, shape.extra, strict=True))


def lowest(dtype: torch.dtype) -> float:
    """Returns the value that no maximum keeps."""
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min
