"""Resize: natively where TensorFlow Lite computes the same, by picking and by constant matrices elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.file import Quantisation
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.images import image, image_out, reshape_into, reshaped
from edgewright.targets._tflite.rules.interpolation import (
    Axis,
    linear_of_tflite,
    nearest,
    nearest_of_tflite,
    weights,
)
from edgewright.targets._tflite.rules.padding import gather

_CONVENTIONS = ((False, True), (True, False), (False, False))
"""(align_corners, half_pixel_centers); TensorFlow Lite refuses both at once."""


def resize(e: Emission, node: ir.Node) -> None:
    """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR; GATHER or BATCH_MATMUL along each axis where neither fits."""
    axes = _axes(e, node)
    mode = node.attributes.get_string("mode", "nearest") or "nearest"
    last = made = e.output(node)
    beyond = _beyond(axes)
    if beyond.any():
        made = e.temp(last, e.tensor(last).shape, f"{node.name}/within")
    if mode == "nearest":
        _nearest(e, node, axes, made)
    else:
        _weighted(e, node, axes, mode, made)
    if beyond.any():
        _extrapolated(e, node, made, beyond, last)


def _beyond(axes: Mapping[int, Axis]) -> NDArray[np.bool_]:
    """Returns which elements of the output lie beyond the input along any axis."""
    found = np.zeros((), np.bool_)
    for _, axis in sorted(axes.items()):
        found = np.logical_or.outer(found, axis.outside())
    return found


def _extrapolated(e: Emission, node: ir.Node, made: int, beyond: NDArray[np.bool_], last: int) -> None:
    if e.tensor(made).quantisation is not None:
        raise StepFailed(
            f"LiteRT: Resize {node.name} extrapolates beyond its input in integers, which is not supported",
            hint="keep this node in float, or resize without tf_crop_and_resize",
        )
    value = node.attributes.get_float("extrapolation_value") or 0.0
    inside = e.const((~beyond).astype(np.float32), f"{node.name}/inside")
    outside = e.const((beyond * value).astype(np.float32), f"{node.name}/outside")
    kept = e.temp(made, beyond.shape, f"{node.name}/kept")
    e.op("MUL", [made, inside], [kept], "MulOptions", fusedActivationFunction=0)
    e.op("ADD", [kept, outside], [last], "AddOptions", fusedActivationFunction=0)


def _nearest(e: Emission, node: ir.Node, axes: Mapping[int, Axis], last: int) -> None:
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor") or ""
    picks = {place: nearest(axis, rounding) for place, axis in axes.items()}
    for corners, half in _CONVENTIONS if _plane(e, node, axes) else ():
        native = (nearest_of_tflite(axis.size, axis.out, corners=corners, half=half) for axis in axes.values())
        if all(map(np.array_equal, native, picks.values())):
            _native(e, node, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", corners=corners, half=half)
            return

    def pick(data: int, place: int, made: int) -> None:
        gather(e, data, picks[place].astype(np.int32), place, made, node.name or "resize")

    _each_axis(e, node, axes, pick, last)


def _weighted(e: Emission, node: ir.Node, axes: Mapping[int, Axis], mode: str, last: int) -> None:
    """Linear and cubic."""
    found = {place: _matrix(node, axis, mode) for place, axis in axes.items()}
    for corners, half in _CONVENTIONS if _plane(e, node, axes) and mode == "linear" else ():
        native = (linear_of_tflite(axis.size, axis.out, corners=corners, half=half) for axis in axes.values())
        if all(np.allclose(a, b, rtol=0, atol=2e-6 * a.shape[1]) for a, b in zip(native, found.values(), strict=True)):
            _native(e, node, "RESIZE_BILINEAR", "ResizeBilinearOptions", corners=corners, half=half)
            return

    def multiply(data: int, place: int, made: int) -> None:
        shape = e.tensor(data).shape
        after = math.prod(shape[place + 1 :])
        flat = reshaped(e, data, (math.prod(shape[:place]), shape[place], after), f"{node.name}/flat_{place}")
        product = e.temp(made, (math.prod(shape[:place]), found[place].shape[0], after), f"{node.name}/product_{place}")
        matrix = e.const(*_stored(e, data, found[place], f"{node.name}/weights_{place}"))
        e.op("BATCH_MATMUL", [matrix, flat], [product], "BatchMatMulOptions")
        reshape_into(e, product, made)

    _each_axis(e, node, axes, multiply, last)


def _each_axis(
    e: Emission, node: ir.Node, axes: Mapping[int, Axis], emit: Callable[[int, int, int], None], last: int
) -> None:
    data = e.input(node, 0)
    moved = [place for place, axis in axes.items() if (axis.size, axis.scale) != (axis.out, 1.0)]
    for place in moved:
        shape = list(e.tensor(data).shape)
        shape[place] = axes[place].out
        made = last if place == moved[-1] else e.temp(last, shape, f"{node.name}/axis_{place}")
        emit(data, place, made)
        data = made
    if not moved:
        reshape_into(e, data, last)


def _native(e: Emission, node: ir.Node, op: str, options: str, *, corners: bool, half: bool) -> None:
    data = image(e, node)
    with image_out(e, node) as last:
        sizes = e.const(np.asarray(e.tensor(last).shape[1:3], np.int32), f"{node.name}/sizes")
        e.op(op, [data, sizes], [last], options, version=3, alignCorners=corners, halfPixelCenters=half)


def _plane(e: Emission, node: ir.Node, axes: Mapping[int, Axis]) -> bool:
    """Says whether only height and width of an image, or the length of a sequence, are resized."""
    rank = len(e.shape(node, 0))
    still = (axes[0], axes[rank - 1])
    return rank in (3, 4) and all(axis.size == axis.out and axis.scale == 1.0 for axis in still)


def _axes(e: Emission, node: ir.Node) -> dict[int, Axis]:
    """Returns the axes by their place in [N, spatial..., C]; the model's lists are of [N, C, spatial...]."""
    size, out = e.shape(node, 0), e.out_shape(node)
    rank = len(size)
    place = [0, rank - 1, *range(1, rank - 1)]
    scales = _scales(e, node, [size[p] for p in place], [out[p] for p in place])
    regions = _regions(e, node, rank)
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") or "half_pixel"
    each = zip(place, scales, regions, strict=True)
    found = {p: Axis(size[p], out[p], scale, mode, *region) for p, scale, region in each}
    return {p: found[p] for p in sorted(found)}


def _scales(e: Emission, node: ir.Node, size: Sequence[int], out: Sequence[int]) -> list[float]:
    said = e.constant(node, 2)
    listed = [axis % len(size) for axis in node.attributes.get_ints("axes") or range(len(size))]
    if said is not None and said.size:
        found = dict(zip(listed, (float(each) for each in said.reshape(-1)), strict=True))
        return [found.get(axis, 1.0) for axis in range(len(size))]
    ratios = [after / before for before, after in zip(size, out, strict=True)]
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    asked = e.constant(node, 3)
    if policy == "stretch" or asked is None:
        return ratios
    wanted = [float(n) / size[axis] for axis, n in zip(listed, asked.reshape(-1), strict=True)]
    kept = min(wanted) if policy == "not_larger" else max(wanted)
    return [kept if axis in listed else 1.0 for axis in range(len(size))]


def _regions(e: Emission, node: ir.Node, rank: int) -> list[tuple[float, float]]:
    roi = e.constant(node, 1)
    found = [(0.0, 1.0)] * rank
    if roi is None or not roi.size:
        return found
    listed = [axis % rank for axis in node.attributes.get_ints("axes") or range(rank)]
    starts, ends = np.split(roi.reshape(-1).astype(np.float64), 2)
    for axis, start, end in zip(listed, starts, ends, strict=True):
        found[axis] = (float(start), float(end))
    return found


def _matrix(node: ir.Node, axis: Axis, mode: str) -> NDArray[np.float64]:
    antialias = bool(node.attributes.get_int("antialias", 0))
    cubic = node.attributes.get_float("cubic_coeff_a", -0.75)
    exclude = bool(node.attributes.get_int("exclude_outside", 0))
    return weights(axis, mode, cubic=-0.75 if cubic is None else cubic, exclude=exclude, antialias=antialias)


def _stored(
    e: Emission, data: int, matrix: NDArray[np.float64], name: str
) -> tuple[NDArray[np.generic], str, Quantisation | None]:
    kind = e.tensor(data).dtype
    if e.tensor(data).quantisation is None:
        return matrix[None].astype(kind), name, None
    scale = float(np.abs(matrix).max()) / np.iinfo(kind).max
    return np.rint(matrix[None] / scale).astype(kind), name, Quantisation((scale,), (0,))


RULES: Rules = {(DOMAIN, "Resize"): resize}
