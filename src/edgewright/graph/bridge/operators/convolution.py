"""Convolutions over one to three spatial axes, [batch, channels, spatial...]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.windows import by_rank, outer_end, pad_spatial, window

_FORWARD: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    shape = window(x, kernel_shape or w.shape[2:], strides=strides, dilations=dilations, pads=pads, auto_pad=auto_pad)
    function: Any = by_rank(_FORWARD, len(shape.kernel), "Conv")
    if not shape.symmetric:
        x = pad_spatial(x, shape.begin, outer_end(shape))
    padding = shape.begin if shape.symmetric else 0
    result: Tensor = function(x, w, b, shape.strides, padding, shape.dilations, group)
    return result


def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Computed without padding and cropped, since PyTorch crops both sides alike."""
    rank = x.dim() - 2
    function: Any = by_rank(_TRANSPOSED, rank, "ConvTranspose")
    strides, dilations = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    extra = tuple(output_padding or (0,) * rank)
    whole: Tensor = function(x, w, None, strides, 0, 0, group, dilations)
    sizes = [size + e for size, e in zip(whole.shape[2:], extra, strict=True)]
    if output_shape:
        begin, end = _cropped(sizes, output_shape[-rank:], lower=auto_pad != "SAME_UPPER")
    elif auto_pad.startswith("SAME"):
        wanted = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
        begin, end = _cropped(sizes, wanted, lower=auto_pad == "SAME_LOWER")
    else:
        begin, end = list(pads or (0,) * (2 * rank))[:rank], list(pads or (0,) * (2 * rank))[rank:]
    result = pad_spatial(whole, [-p for p in begin], [e - p for p, e in zip(end, extra, strict=True)])
    return result if b is None else result + b.reshape(-1, *[1] * rank)


def _cropped(sizes: Sequence[int], wanted: Sequence[int], *, lower: bool) -> tuple[list[int], list[int]]:
    totals = [size - want for size, want in zip(sizes, wanted, strict=True)]
    begin = [max(total - total // 2 if lower else total // 2, 0) for total in totals]
    return begin, [total - b for total, b in zip(totals, begin, strict=True)]


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
}
