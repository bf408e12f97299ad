"""Shapes: moving, joining, cutting and repeating elements without computing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Ints, Number, axes_of, ints


def reshape(data: Tensor, shape: Ints, *, allowzero: int = 0) -> Tensor:
    """Zero copies the size of the input at that place, unless `allowzero`."""
    sizes = ints(shape)
    if not allowzero:
        sizes = [data.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)]
    return data.reshape(sizes)


def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Two axes: those before `axis` and those from it on."""
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    return x.permute(tuple(reversed(range(x.dim()))) if perm is None else tuple(perm))


def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    if axes is None:
        return x.squeeze()
    return x.squeeze(axes_of(axes, x.dim()))


def unsqueeze(x: Tensor, axes: Ints) -> Tensor:
    """Axes are counted in the result."""
    rank = x.dim() + len(ints(axes))
    for axis in sorted(axes_of(axes, rank)):
        x = x.unsqueeze(axis)
    return x


def concat(*inputs: Tensor, axis: int = 1) -> Tensor:
    return torch.cat(inputs, axis)


def split(
    x: Tensor, split: Ints | None = None, *, axis: int = 0, num_outputs: int | None = None, outputs: int = 1
) -> tuple[Tensor, ...]:
    """Equal parts without `split`; the last one may be smaller."""
    if split is not None:
        return torch.split_with_sizes(x, ints(split), axis)
    size, count = x.shape[axis], num_outputs or outputs
    part = -(-size // count)
    return torch.split_with_sizes(x, [min(part, max(size - i * part, 0)) for i in range(count)], axis)


def slice_(data: Tensor, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Tensor:
    """Python's slices; PyTorch has no negative steps, so those pick elements."""
    first, last = ints(starts), ints(ends)
    dims = axes_of(list(range(len(first))) if axes is None else axes, data.dim())
    strides = [1] * len(first) if steps is None else ints(steps)
    for axis, start, end, step in zip(dims, first, last, strides, strict=True):
        chosen = slice(start, end, step).indices(data.shape[axis])
        if step > 0:
            data = data.narrow(axis, min(chosen[0], data.shape[axis]), max(chosen[1] - chosen[0], 0))
            index = (*[slice(None)] * axis, slice(None, None, step))
            data = data[index] if step > 1 else data
        else:
            data = data.index_select(axis, torch.arange(*chosen, device=data.device))
    return data


def expand(x: Tensor, shape: Ints) -> Tensor:
    """Broadcasts both ways: the shape may have ones where the input has more."""
    sizes = ints(shape)
    x = x.reshape([1] * (len(sizes) - x.dim()) + list(x.shape))
    sizes = [1] * (x.dim() - len(sizes)) + sizes
    return x.expand([-1 if size == 1 else size for size in sizes])


def tile(x: Tensor, repeats: Ints) -> Tensor:
    return x.repeat(ints(repeats))


def pad(
    data: Tensor,
    pads: Ints,
    constant_value: Number | None = None,
    axes: Ints | None = None,
    *,
    mode: str = "constant",
    value: float = 0.0,
) -> Tensor:
    """All beginnings, then all ends; negative numbers crop."""
    widths, dims = ints(pads), axes_of(axes, data.dim())
    fill = value if constant_value is None else constant_value
    number = fill.item() if isinstance(fill, Tensor) else fill
    count = len(dims)
    for index, axis in enumerate(dims):
        begin, end = widths[index], widths[index + count]
        if (begin or end) and mode == "constant":
            data = _constant(data, axis, begin, end, number)
        elif begin or end:
            data = data.index_select(axis, _source(data, axis, begin, end, mode))
    return data


def _constant(data: Tensor, axis: int, begin: int, end: int, number: float) -> Tensor:
    widths = [0, 0] * (data.dim() - 1 - axis) + [begin, end]
    if data.dtype != torch.bool:
        return F.pad(data, widths, value=number)
    return F.pad(data.to(torch.uint8), widths, value=int(number)).bool()


def _source(data: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """Where each element of a padded axis comes from."""
    size = data.shape[axis]
    places = torch.arange(-begin, size + end, device=data.device)
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    period = max(2 * (size - 1), 1)
    folded = places.abs() % period
    return torch.where(folded >= size, period - folded, folded)


def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


def size(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    depth = c // blocksize**2
    if mode == "DCR":
        blocks = x.reshape(n, blocksize, blocksize, depth, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, depth, blocksize, blocksize, h, w).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, depth, h * blocksize, w * blocksize)


def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(n, c * blocksize**2, h // blocksize, w // blocksize)


def identity(x: Tensor) -> Tensor:
    return x


OPERATORS: dict[str, Callable[..., Any]] = {
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": flatten,
    "Identity": identity,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape,
    "Size": size,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
