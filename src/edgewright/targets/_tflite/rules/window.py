"""Sliding windows: sizes, strides and pads of convolutions and pools, and the padding schemes of TensorFlow Lite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

SAME, VALID = 0, 1
Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window; one entry per spatial axis everywhere.

    Attributes:
        kernel: Sizes.
        strides: Steps.
        dilations: Distance between taps.
        pads: (before, after) as the model declares them.
        size: Of the input.
        out: Of the output; with `ceil_mode` its last window may reach beyond the declared pads.
    """

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    pads: tuple[tuple[int, int], ...]
    size: Sizes
    out: Sizes

    @property
    def reach(self) -> Sizes:
        """Extent of the dilated kernel."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    def needed(self) -> tuple[tuple[int, int], ...]:
        """Returns the pads that windows really touch: what lies behind the last window is left out."""
        spans = [(o - 1) * s + r for o, s, r in zip(self.out, self.strides, self.reach, strict=True)]
        each = zip(self.size, spans, self.pads, strict=True)
        return tuple((before, max(span - n - before, 0)) for n, span, (before, _) in each)

    def scheme(self) -> int | None:
        """Returns the scheme that gives these pads without a PAD; None if neither does."""
        needed = self.needed()
        if not any(map(any, needed)):
            return VALID
        if any(o != -(-n // s) for o, n, s in zip(self.out, self.size, self.strides, strict=True)):
            return None
        return SAME if all(before == (before + after) // 2 for before, after in needed) else None

    def counts(self, *, declared: bool) -> NDArray[np.float64]:
        """Returns how many elements each window averages, along the spatial axes.

        Args:
            declared: Declared pads count as elements (`count_include_pad`).
        """
        found = np.ones((), np.float64)
        for axis in range(len(self.kernel)):
            before, after = self.pads[axis]
            low, high = (-before, self.size[axis] + after) if declared else (0, self.size[axis])
            starts = np.arange(self.out[axis]) * self.strides[axis] - before
            taps = starts[:, None] + np.arange(self.kernel[axis]) * self.dilations[axis]
            found = np.multiply.outer(found, ((taps >= low) & (taps < high)).sum(1))
        return found

    def axes(self, *chosen: int) -> Window:
        """Returns the window along some axes; -1 for an axis of size 1 that nothing slides over."""
        parts = [(1, 1, 1, (0, 0), 1, 1) if axis < 0 else self._at(axis) for axis in chosen]
        kernel, strides, dilations, pads, size, out = zip(*parts, strict=True)
        return Window(kernel, strides, dilations, pads, size, out)

    def _at(self, axis: int) -> tuple[int, int, int, tuple[int, int], int, int]:
        return (
            self.kernel[axis],
            self.strides[axis],
            self.dilations[axis],
            self.pads[axis],
            self.size[axis],
            self.out[axis],
        )


def window_of(node: ir.Node, kernel: Sequence[int], size: Sequence[int], out: Sequence[int]) -> Window:
    """Reads the attributes that convolutions and pools share; `auto_pad` is worked out.

    Args:
        node: Of [N, spatial..., C].
        kernel: Sizes of the kernel.
        size: Spatial sizes of the input.
        out: Spatial sizes of the output.
    """
    rank = len(kernel)
    strides = tuple(node.attributes.get_ints("strides") or [1] * rank)
    dilations = tuple(node.attributes.get_ints("dilations") or [1] * rank)
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        each = zip(size, kernel, strides, dilations, strict=True)
        pads = tuple(_same(n, k, s, d, upper=auto == "SAME_UPPER") for n, k, s, d in each)
    else:
        said = (node.attributes.get_ints("pads") if auto == "NOTSET" else None) or [0] * 2 * rank
        pads = tuple(zip(said[:rank], said[rank:], strict=True))
    return Window(tuple(kernel), strides, dilations, pads, tuple(size), tuple(out))


def _same(size: int, kernel: int, stride: int, dilation: int, *, upper: bool) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)
