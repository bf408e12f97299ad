"""Channels that are one number, whatever the sample: what filters of zeros leave behind.

Every tensor has an array of what is known of it: NaN where samples decide, size 1 along axes that make no difference.
So what is known of a map [n, c, h, w] is mostly an array [1, c, 1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgewright.graph.pruning.pointwise import JOINING, UNARY
from edgewright.graph.pruning.scene import Scene, integers, ints, operand, words
from edgewright.graph.quantisers import numbers

Array = NDArray[np.float64]
Known = dict[str, Array]
_ELEMENTS = 1 << 22
"""Larger tensors are not spread out to reshape what is known of them."""
_LOGICAL = words("And Equal Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Mod Not Or Xor")


def known_values(model: ir.Model, scene: Scene) -> Known:
    """Returns what is known of the result of every node.

    Args:
        model: Float, as `prepare` leaves it.
        scene: Its sizes.
    """
    found: Known = {}
    for node in model.graph:
        rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        for value in node.outputs:
            found[value.name or ""] = np.full((1,) * len(scene.shapes.get(value.name or "", ())), np.nan)
        if rule is not None and all(value.name in scene.shapes for value in (*node.inputs, *node.outputs) if value):
            with np.errstate(all="ignore"):
                made = rule(node, found, scene)
            if made is not None:
                found[node.outputs[0].name or ""] = _collapsed(made)
    return found


def channels(known: Array, axis: int, size: int) -> Array:
    """Returns what is known along one axis, [size]: NaN where another axis makes a difference."""
    rest = np.moveaxis(known, axis, 0).reshape(known.shape[axis], -1)
    flat = np.where((rest == rest[:, :1]).all(axis=1), rest[:, 0], np.nan)
    return np.broadcast_to(flat, size)


def padded(node: ir.Node) -> bool:
    """Says whether a convolution or a pool adds zeros at the borders."""
    return any(node.attributes.get_ints("pads") or ()) or node.attributes.get_string("auto_pad", "NOTSET") in (
        "SAME_UPPER",
        "SAME_LOWER",
    )


def _of(value: ir.Value | None, found: Known) -> Array:
    if value is None:
        return np.zeros(0)
    constant = numbers(value)
    if constant is not None:
        return np.asarray(constant, np.float64)
    return found.get(value.name or "", np.full((1,) * len(value.shape or ()), np.nan))


def _collapsed(known: Array) -> Array:
    for axis, size in enumerate(known.shape):
        first = known.take([0], axis)
        if size > 1 and np.array_equal(np.broadcast_to(first, known.shape), known, equal_nan=True):
            known = first
    return known


def _pointwise(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    if node.op_type in _LOGICAL or node.op_type in ("Cast", "CastLike", "Where"):
        return None
    if node.op_type in ("Identity", "Dropout"):
        return _of(node.inputs[0], found)
    given = {value.name or "": _of(value, found) for value in node.inputs if value is not None}
    if all(np.isnan(array).all() for array in given.values()):
        return None
    feed: dict[str, Any] = {name: np.nan_to_num(array) for name, array in given.items()}
    (made,) = ReferenceEvaluator(ir.to_proto(node), opsets={"": scene.version}).run(None, feed)
    result = np.asarray(made)
    unknown = np.zeros(result.shape, bool)
    for array in given.values():
        unknown |= np.broadcast_to(np.isnan(array), result.shape)
    if node.op_type == "Mul":
        for array in given.values():
            unknown &= ~np.broadcast_to(array == 0, result.shape)
    return np.where(unknown, np.nan, result)


def _norm(node: ir.Node, found: Known, scene: Scene) -> Array:
    known = _of(node.inputs[0], found)
    shape = (1, -1) + (1,) * (known.ndim - 2)
    scale, shift, *rest = (_of(value, found).reshape(shape) for value in node.inputs[1:])
    if node.op_type == "InstanceNormalization":
        flat = channels(known, 1, scale.size).reshape(shape)  # positions that differ have a variance
        return np.where(np.isnan(flat) & (scale != 0), np.nan, shift)
    mean, variance = rest
    result = (known - mean) * scale / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5)) + shift
    return np.where(scale == 0, shift, result)


def _conv(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    weights = numbers(node.inputs[1])
    if weights is None:
        return None
    rank, groups = weights.ndim, node.attributes.get_int("group", 1)
    known = channels(_of(node.inputs[0], found), 1, scene.shape(node.inputs[0])[1])
    if node.op_type == "ConvTranspose":
        known = np.where(known == 0, 0, np.nan)  # borders and strides make a difference to all else
        apart = weights.reshape(groups, -1, *weights.shape[1:])
        weights = np.swapaxes(apart, 1, 2).reshape(-1, known.size // groups, *weights.shape[2:])
    elif padded(node):
        known = np.where(known == 0, 0, np.nan)
    taps = weights.reshape(*weights.shape[:2], -1)
    rows = np.repeat(known.reshape(groups, -1), taps.shape[0] // groups, axis=0)
    out = _summed(taps.sum(axis=2, dtype=np.float64), (taps != 0).any(axis=2), rows) + _bias(operand(node, 2), found)
    return out.reshape((1, -1) + (1,) * (rank - 2))


def _summed(weights: Array, used: NDArray[np.bool_], known: Array) -> Array:
    """Returns the sum over the second axis; NaN where something unknown is used."""
    return np.where((used & np.isnan(known)).any(axis=1), np.nan, (weights * np.nan_to_num(known)).sum(axis=1))


def _bias(value: ir.Value | None, found: Known) -> Array:
    return np.zeros(1) if value is None else _of(value, found)


def _gemm(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    weights = numbers(node.inputs[1])
    turned_data, turned = (node.attributes.get_int(name, 0) for name in ("transA", "transB"))
    if weights is None or turned_data:
        return None
    rows = np.asarray(weights if turned else weights.T, np.float64)
    known = channels(_of(node.inputs[0], found), 1, rows.shape[1])
    added = _bias(operand(node, 2), found) * node.attributes.get_float("beta", 1.0)
    return np.atleast_2d(_summed(rows, rows != 0, known[None]) * node.attributes.get_float("alpha", 1.0) + added)


def _matmul(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    first, weights = _of(node.inputs[0], found), numbers(node.inputs[1])
    if weights is not None and weights.ndim == 2:
        known = channels(first, first.ndim - 1, weights.shape[0])
        out = _summed(np.asarray(weights.T, np.float64), weights.T != 0, known[None])
        return out.reshape((1,) * (first.ndim - 1) + (-1,))
    second = _of(node.inputs[1], found)
    if min(first.ndim, second.ndim) < 2:
        return None
    nothing = (first == 0).all(axis=-1, keepdims=True) | (second == 0).all(axis=-2, keepdims=True)
    return np.where(nothing, 0.0, np.nan)


def _pool(node: ir.Node, found: Known, scene: Scene) -> Array:
    known = _of(node.inputs[0], found)
    flat = channels(known, 1, scene.shape(node.inputs[0])[1])
    counted = node.attributes.get_int("count_include_pad", 0)
    if node.op_type == "LpPool" or (node.op_type == "AveragePool" and counted and padded(node)):
        flat = np.where(flat == 0, 0, np.nan)
    return flat.reshape((1, -1) + (1,) * (known.ndim - 2))


def _reduce(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    known, shape = _of(node.inputs[0], found), scene.shape(node.inputs[0])
    axes = ints(node, "axes", 1)
    if axes is None:
        return None
    chosen = tuple(int(axis) % len(shape) for axis in axes)
    whole = np.broadcast_to(known, [shape[i] if i in chosen else size for i, size in enumerate(known.shape)])
    keep = bool(node.attributes.get_int("keepdims", 1))
    return np.asarray(_REDUCED[node.op_type](whole, axis=chosen, keepdims=keep))


def _transpose(node: ir.Node, found: Known, scene: Scene) -> Array:
    known = _of(node.inputs[0], found)
    return np.transpose(known, node.attributes.get_ints("perm") or None)


def _concat(node: ir.Node, found: Known, scene: Scene) -> Array:
    given = [_of(value, found) for value in node.inputs]
    axis = node.attributes.get_int("axis", 0) % given[0].ndim
    wide = [max(known.shape[i] for known in given) for i in range(given[0].ndim)]
    sizes = [scene.shape(value)[axis] for value in node.inputs]
    whole = [np.broadcast_to(k, [*wide[:axis], n, *wide[axis + 1 :]]) for k, n in zip(given, sizes, strict=True)]
    return np.concatenate(whole, axis=axis)


def _split(node: ir.Node, found: Known, scene: Scene) -> None:
    known = _of(node.inputs[0], found)
    axis, start = node.attributes.get_int("axis", 0) % known.ndim, 0
    for value in node.outputs:
        size = scene.shape(value)[axis]
        whole = known.shape[axis] > 1
        found[value.name or ""] = known.take(range(start, start + size), axis) if whole else known
        start += size


def _slice(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    known = _of(node.inputs[0], found)
    starts, ends, axes = ints(node, "starts", 1), ints(node, "ends", 2), ints(node, "axes", 3)
    if starts is None or ends is None:
        return None
    axes = np.arange(len(starts)) if axes is None else axes
    steps = integers(operand(node, 4))
    for i, axis in enumerate(axes.tolist()):
        step = 1 if steps is None else int(steps[i])
        if known.shape[axis] > 1 and step < 0:
            return None
        if known.shape[axis] > 1:
            known = known.take(range(*slice(int(starts[i]), int(ends[i]), step).indices(known.shape[axis])), axis)
    return known


def _reshape(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    known, shape = _of(node.inputs[0], found), scene.shape(node.inputs[0])
    if np.isnan(known).all() or int(np.prod(shape)) > _ELEMENTS:
        return None
    return np.broadcast_to(known, shape).reshape(scene.shape(node.outputs[0]))


def _same(node: ir.Node, found: Known, scene: Scene) -> Array | None:
    """Positions change, channels do not."""
    known, shape = _of(node.inputs[0], found), scene.shape(node.inputs[0])
    if node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    return channels(known, 1, shape[1]).reshape((1, -1) + (1,) * (known.ndim - 2))


_REDUCED: Mapping[str, Callable[..., Any]] = {
    "ReduceMean": np.mean,
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}
RULES: Mapping[str, Callable[[ir.Node, Known, Scene], Array | None]] = {
    **dict.fromkeys(UNARY | JOINING, _pointwise),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _norm),
    **dict.fromkeys(("Conv", "ConvTranspose"), _conv),
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"), _pool),
    **dict.fromkeys(_REDUCED, _reduce),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Resize", "Upsample"), _same),
}
"""Operators behind which something can be known."""
