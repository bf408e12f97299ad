"""Resizing: sampling at other coordinates, axis by axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import Floats, Ints, axes_of, floats, ints


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis is resized.

    Attributes:
        axis: Which.
        before: Its size in the input.
        after: Its size in the output.
        scale: Output elements per input element, which need not be `after / before`.
        start: Where the region of interest begins, 0..1.
        end: Where it ends.
    """

    axis: int
    before: int
    after: int
    scale: float
    start: float
    end: float


def resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: Ints | None = None,
    *,
    antialias: int = 0,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    opset: int,
) -> Tensor:
    """Opset 10 has no region of interest, asymmetric coordinates, and rounds down."""
    if opset < 11:
        return upsample(x, roi, mode=mode)
    dims = axes_of(None if axes is None else list(axes), x.dim())
    plan = _plan(x, dims, roi, scales, sizes, keep_aspect_ratio_policy)
    fast = (
        None if antialias or exclude_outside else _native(x, plan, mode, coordinate_transformation_mode, nearest_mode)
    )
    if fast is not None:
        return fast
    crop = coordinate_transformation_mode == "tf_crop_and_resize"
    outside = torch.zeros((1,) * x.dim(), dtype=torch.bool, device=x.device)
    whole = x
    for one in plan:
        if one.before == one.after and one.scale == 1 and not crop:
            continue
        places = coordinates(one, coordinate_transformation_mode, x.device)
        lost = (places < 0) | (places > one.before - 1)
        outside = outside | lost.reshape(-1, *[1] * (x.dim() - 1 - one.axis)) if crop else outside
        if mode == "nearest":
            whole = whole.index_select(one.axis, _nearest(places, one.before, nearest_mode))
        else:
            squeeze = min(1.0, one.scale) if antialias else 1.0
            whole = _interpolated(whole, one, places, mode, cubic_coeff_a, squeeze, bool(exclude_outside))
    return torch.where(outside, torch.as_tensor(extrapolation_value, dtype=x.dtype), whole) if crop else whole


def upsample(x: Tensor, scales: Floats | None = None, *, mode: str = "nearest") -> Tensor:
    assert scales is not None
    return resize(
        x,
        None,
        scales,
        coordinate_transformation_mode="asymmetric",
        mode="linear" if mode == "bilinear" else mode,
        nearest_mode="floor",
        opset=11,
    )


def _plan(
    x: Tensor, dims: Sequence[int], roi: Floats | None, scales: Floats | None, sizes: Ints | None, policy: str
) -> list[Axis]:
    region = [] if roi is None else floats(roi)
    region = region or [0.0] * len(dims) + [1.0] * len(dims)
    before = [x.shape[axis] for axis in dims]
    factors = [] if scales is None else floats(scales)
    if factors:
        spans = [region[i + len(dims)] - region[i] for i in range(len(dims))]
        after = [math.floor(b * span * f) for b, span, f in zip(before, spans, factors, strict=True)]
    else:
        assert sizes is not None
        after = ints(sizes)
        if policy != "stretch":
            ratios = [a / b for a, b in zip(after, before, strict=True)]
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            after = [math.floor(ratio * b + 0.5) for b in before]
            factors = [ratio] * len(dims)
        else:
            factors = [a / b for a, b in zip(after, before, strict=True)]
    return [
        Axis(axis, before[i], after[i], factors[i], region[i], region[i + len(dims)]) for i, axis in enumerate(dims)
    ]


def coordinates(one: Axis, mode: str, device: torch.device) -> Tensor:
    """Returns where each output element lies in the input, as float64."""
    width = one.scale * one.before
    out = torch.arange(one.after, dtype=torch.float64, device=device)
    if mode == "asymmetric":
        return out / one.scale
    if mode == "align_corners":
        return out * ((one.before - 1) / (width - 1)) if width != 1 else torch.zeros_like(out)
    if mode == "tf_crop_and_resize":
        if one.after == 1:
            return torch.full_like(out, 0.5 * (one.start + one.end) * (one.before - 1))
        return (one.start + out * (one.end - one.start) / (width - 1)) * (one.before - 1)
    if mode == "pytorch_half_pixel" and one.after == 1:
        return torch.zeros_like(out)
    places = (out + 0.5) / one.scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = one.after / width
        places = places + one.before / 2 * (1 - adjustment)
    return places


def _nearest(places: Tensor, size: int, mode: str) -> Tensor:
    rounded = {
        "round_prefer_floor": lambda: torch.ceil(places - 0.5),
        "round_prefer_ceil": lambda: torch.floor(places + 0.5),
        "floor": lambda: torch.floor(places),
        "ceil": lambda: torch.ceil(places),
    }[mode]()
    return rounded.long().clamp(0, size - 1)


def _interpolated(
    x: Tensor, one: Axis, places: Tensor, mode: str, a: float, squeeze: float, inside_only: bool
) -> Tensor:
    """Sums the neighbours of each place by the kernel, stretched by `1 / squeeze` against aliasing."""
    kernel = _triangle if mode == "linear" else lambda distance: _cubic(distance, a)
    radius = (1 if mode == "linear" else 2) / squeeze
    first = torch.floor(places - radius).long() + 1
    total: Tensor | None = None
    taps = [first + offset for offset in range(math.ceil(2 * radius) + (squeeze < 1))]
    weights = [kernel((tap - places).abs() * squeeze) for tap in taps]
    if inside_only:
        weights = [w * ((t >= 0) & (t < one.before)) for t, w in zip(taps, weights, strict=True)]
    if inside_only or squeeze < 1:
        norm = torch.stack(weights).sum(0)
        weights = [w / norm for w in weights]
    for tap, weight in zip(taps, weights, strict=True):
        factor = weight.to(x.dtype).reshape(-1, *[1] * (x.dim() - 1 - one.axis))
        term = x.index_select(one.axis, tap.clamp(0, one.before - 1)) * factor
        total = term if total is None else total + term
    assert total is not None
    return total


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    """Keys, "Cubic convolution interpolation for digital image processing", 1981, equation 4."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _native(x: Tensor, plan: Sequence[Axis], mode: str, transformation: str, nearest_mode: str) -> Tensor | None:
    """PyTorch's own interpolation where it is the same: images, exact ratios, its own coordinates."""
    spatial = [one for one in plan if one.axis >= 2]
    if x.dim() != 4 or not x.is_floating_point() or len(spatial) != 2:
        return None
    if any(one.before != one.after for one in plan if one.axis < 2) or any(
        abs(one.scale * one.before - one.after) > 1e-6 * one.after or one.after < 2 for one in spatial
    ):
        return None
    size = [one.after for one in sorted(spatial, key=lambda one: one.axis)]
    whole = all(one.after % one.before == 0 for one in spatial)
    if mode == "nearest" and transformation == "asymmetric" and nearest_mode == "floor" and whole:
        return F.interpolate(x, size, mode="nearest")
    if mode == "linear" and transformation in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return F.interpolate(x, size, mode="bilinear", align_corners=transformation == "align_corners")
    return None


OPERATORS: dict[str, Callable[..., Any]] = {
    "Resize": resize,
    "Upsample": upsample,
}
