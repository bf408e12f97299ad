"""Rules for operators that look at neighbouring pixels: channels-first in ONNX.

Padding SAME follows TensorFlow: output = ceil(input / stride), the odd pixel at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule, ints
from edgewright.formats.tflite.reader import TfliteOperator

_SAME = 0


def conv(e: Emitter, op: TfliteOperator) -> None:
    """CONV_2D: weights [out, height, width, in / groups]."""
    groups = e.tensor(op.inputs[0]).shape[3] // max(e.tensor(op.inputs[1]).shape[3], 1)
    _convolution(e, op, (0, 3, 1, 2), groups)


def depthwise_conv(e: Emitter, op: TfliteOperator) -> None:
    """DEPTHWISE_CONV_2D: weights [1, height, width, in x multiplier]."""
    _convolution(e, op, (3, 0, 1, 2), e.tensor(op.inputs[0]).shape[3])


def transpose_conv(e: Emitter, op: TfliteOperator) -> None:
    """TRANSPOSE_CONV: inputs are output shape, weights [out, height, width, in], value and optionally a bias."""
    kernel = e.tensor(op.inputs[1]).shape[1:3]
    name, size = e.tensor(op.outputs[0]).name, e.tensor(op.inputs[2]).shape
    strides = (op.options["stride_h"], op.options["stride_w"])
    wanted = e.tensor(op.outputs[0]).shape[1:3]
    full = [(n - 1) * s + k for n, s, k in zip(size[1:3], strides, kernel, strict=True)]
    surplus = [max(f - w, 0) for f, w in zip(full, wanted, strict=True)]
    inputs = [e.first(op.inputs[2]), e.weights(op.inputs[1], (3, 0, 1, 2)), *bias(e, op, 3, op.inputs[2])]
    value = e.node(
        "ConvTranspose",
        inputs,
        f"{name}_nchw",
        strides=strides,
        pads=[s // 2 for s in surplus] + [s - s // 2 for s in surplus],
        output_padding=[max(w - f, 0) for f, w in zip(full, wanted, strict=True)],
    )
    e.store(op.outputs[0], value, first=True, activation=op.options["activation"])


def pool(kind: str, **attributes: Any) -> Rule:
    """Returns the rule for a pooling operator; padding never counts."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        kernel = (op.options["filter_h"], op.options["filter_w"])
        name = f"{e.tensor(op.outputs[0]).name}_nchw"
        geometry = {"kernel_shape": kernel, **_window(e, op, kernel, (1, 1))}
        value = e.node(kind, [e.first(op.inputs[0])], name, **geometry, **attributes)
        e.store(op.outputs[0], value, first=True, activation=op.options["activation"])

    return rule


def resize(mode: str) -> Rule:
    """Returns the rule for RESIZE_BILINEAR (`linear`) or RESIZE_NEAREST_NEIGHBOR (`nearest`)."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        name, source = e.tensor(op.outputs[0]).name, e.tensor(op.inputs[0]).shape
        height, width = (int(n) for n in e.need_array(op.inputs[1]))
        scales = np.asarray([1, 1, _scale(source[1], height), _scale(source[2], width)], np.float32)
        how = "align_corners" if op.options["align_corners"] else "asymmetric"
        how = "half_pixel" if op.options["half_pixel"] else how
        nearest = "floor" if how == "asymmetric" else "round_prefer_ceil"
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": nearest}
        inputs = [e.first(op.inputs[0]), None, e.constant(scales, f"{name}_scales")]
        e.store(op.outputs[0], e.node("Resize", inputs, f"{name}_nchw", **attributes), first=True)

    return rule


def depth_to_space(kind: str) -> Rule:
    """Returns the rule for DEPTH_TO_SPACE or SPACE_TO_DEPTH (`DepthToSpace`, `SpaceToDepth`)."""

    def rule(e: Emitter, op: TfliteOperator) -> None:
        before, after = e.tensor(op.inputs[0]).shape, e.tensor(op.outputs[0]).shape
        block = max(after[1] // before[1], before[1] // after[1])
        value = e.node(kind, [e.first(op.inputs[0])], f"{e.tensor(op.outputs[0]).name}_nchw", blocksize=block)
        e.store(op.outputs[0], value, first=True)

    return rule


def _scale(before: int, after: int) -> np.float32:
    """Returns the float32 with floor(before x scale) = after; sizes instead of scales would fix the batch."""
    scale = np.float32(after / before)
    above: np.float32 = np.nextafter(scale, np.float32(np.inf))
    return scale if float(scale) * before >= after else above


def _convolution(e: Emitter, op: TfliteOperator, order: tuple[int, ...], groups: int) -> None:
    """`order` turns the stored weights into [out, in / groups, height, width]."""
    name, stored = e.tensor(op.outputs[0]).name, e.tensor(op.inputs[1])
    kernel = [stored.shape[axis] for axis in order[2:]]
    dilations = (op.options["dilation_h"], op.options["dilation_w"])
    value = e.node(
        "Conv",
        [e.first(op.inputs[0]), e.weights(op.inputs[1], order), *bias(e, op, 2, op.inputs[0])],
        f"{name}_nchw",
        kernel_shape=kernel,
        dilations=dilations,
        group=groups,
        **_window(e, op, kernel, dilations),
    )
    e.store(op.outputs[0], value, first=True, activation=op.options["activation"])


def bias(e: Emitter, op: TfliteOperator, position: int, data: int) -> list[ir.Value]:
    """Returns the bias of a product, nothing where it has none; `data` is the tensor its weights multiply."""
    if len(op.inputs) <= position or op.inputs[position] < 0:
        return []
    scales = e.tensor(data).scale or (1.0,)
    return [e.bias(op.inputs[position], [scales[0] * scale for scale in e.tensor(op.inputs[1]).scale or (1.0,)])]


def _window(e: Emitter, op: TfliteOperator, kernel: Sequence[int], dilations: tuple[int, int]) -> Mapping[str, Any]:
    tensor = e.tensor(op.inputs[0])
    strides = (op.options["stride_h"], op.options["stride_w"])
    if min(strides) < 1 or len(tensor.shape) != 4:
        raise SourceError(f'tensor "{tensor.name}": {op.op} with strides {strides}', hint="convert the model again")
    if "pads" in op.options:
        return {"strides": strides, "pads": op.options["pads"]}
    if op.options["padding"] != _SAME:
        return {"strides": strides, "pads": [0, 0, 0, 0]}
    if any(tensor.dynamic[1:3]):
        raise SourceError(
            f'tensor "{tensor.name}": {op.op} with padding SAME on a dynamic image size',
            hint="convert the model with a fixed image size",
        )
    totals = [
        max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
        for n, s, k, d in zip(tensor.shape[1:3], strides, kernel, dilations, strict=True)
    ]
    return {"strides": strides, "pads": [t // 2 for t in totals] + [t - t // 2 for t in totals]}


def l2_pool(e: Emitter, op: TfliteOperator) -> None:
    """L2_POOL_2D: root of the mean square."""
    kernel, name = (op.options["filter_h"], op.options["filter_w"]), f"{e.tensor(op.outputs[0]).name}_nchw"
    square = e.node("Mul", [e.first(op.inputs[0])] * 2, f"{name}_square")
    mean = e.node("AveragePool", [square], f"{name}_mean", kernel_shape=kernel, **_window(e, op, kernel, (1, 1)))
    e.store(op.outputs[0], e.node("Sqrt", [mean], name), first=True, activation=op.options["activation"])


def local_response(e: Emitter, op: TfliteOperator) -> None:
    """LOCAL_RESPONSE_NORMALIZATION over channels; ONNX divides alpha by their number."""
    size = 2 * op.options["radius"] + 1
    how = {"size": size, "alpha": op.options["alpha"] * size, "beta": op.options["beta"], "bias": op.options["bias"]}
    e.store(
        op.outputs[0], e.node("LRN", [e.first(op.inputs[0])], f"{e.tensor(op.outputs[0]).name}_nchw", **how), first=True
    )


def space_to_batch(e: Emitter, op: TfliteOperator) -> None:
    """SPACE_TO_BATCH_ND: pad, then every pixel of a block becomes an image of its own."""
    blocks, pads = (e.need_array(n) for n in op.inputs[1:3])
    name, shape, count = e.tensor(op.outputs[0]).name, e.tensor(op.inputs[0]).shape, len(blocks)
    value = e.last(op.inputs[0])
    if pads.any():
        around = np.zeros((len(shape), 2), np.int64)
        around[1 : count + 1] = pads
        value = e.node("Pad", [value, ints(e, around.T.reshape(-1), name)], f"{name}_padded")
    sizes = [(shape[1 + i] + int(pads[i].sum())) // int(blocks[i]) for i in range(count)]
    parted = [n for size, block in zip(sizes, blocks, strict=True) for n in (size, int(block))]
    inner = [2 * i + 2 for i in range(count)]
    order = [*inner, 0, *(i - 1 for i in inner), *range(2 * count + 1, count + len(shape))]
    value = e.node("Reshape", [value, ints(e, [shape[0], *parted, *shape[count + 1 :]], name)], f"{name}_parted")
    value = e.node("Transpose", [value], f"{name}_turned", perm=order)
    target = ints(e, e.tensor(op.outputs[0]).shape, name)
    e.store(op.outputs[0], e.node("Reshape", [value, target], name), first=False)


def batch_to_space(e: Emitter, op: TfliteOperator) -> None:
    """BATCH_TO_SPACE_ND: the reverse, then cut."""
    blocks, cuts = (e.need_array(n) for n in op.inputs[1:3])
    name, shape, count = e.tensor(op.outputs[0]).name, e.tensor(op.inputs[0]).shape, len(blocks)
    images, rest = shape[0] // int(np.prod(blocks)), shape[count + 1 :]
    value = e.last(op.inputs[0])
    value = e.node("Reshape", [value, ints(e, [*blocks, images, *shape[1:]], name)], f"{name}_parted")
    pairs = [axis for i in range(count) for axis in (count + 1 + i, i)]
    order = [count, *pairs, *range(2 * count + 1, count + len(shape))]
    value = e.node("Transpose", [value], f"{name}_turned", perm=order)
    whole = [size * int(block) for size, block in zip(shape[1:], blocks, strict=False)]
    plain = f"{name}_whole" if cuts.any() else name
    value = e.node("Reshape", [value, ints(e, [images, *whole, *rest], name)], plain)
    if cuts.any():
        ends = [size - int(cut) for size, cut in zip(whole, cuts[:, 1], strict=True)]
        bounds = (cuts[:, 0].tolist(), ends, range(1, count + 1))
        value = e.node("Slice", [value, *(ints(e, part, name) for part in bounds)], name)
    e.store(op.outputs[0], value, first=False)


RULES: dict[str, Rule] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise_conv,
    "TRANSPOSE_CONV": transpose_conv,
    "AVERAGE_POOL_2D": pool("AveragePool", count_include_pad=0),
    "MAX_POOL_2D": pool("MaxPool"),
    "RESIZE_BILINEAR": resize("linear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
    "L2_POOL_2D": l2_pool,
    "LOCAL_RESPONSE_NORMALIZATION": local_response,
    "SPACE_TO_BATCH_ND": space_to_batch,
    "BATCH_TO_SPACE_ND": batch_to_space,
    "DEPTH_TO_SPACE": depth_to_space("DepthToSpace"),
    "SPACE_TO_DEPTH": depth_to_space("SpaceToDepth"),
}
