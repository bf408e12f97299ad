"""Rules for operators that look at neighbouring pixels: channels-first in ONNX.

Padding SAME follows TensorFlow: output = ceil(input / stride), the odd pixel at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.reader import TfliteOperator

Rule = Callable[[Emitter, TfliteOperator], None]
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


RULES: dict[str, Rule] = {
    "CONV_2D": conv,
    "DEPTHWISE_CONV_2D": depthwise_conv,
    "TRANSPOSE_CONV": transpose_conv,
    "AVERAGE_POOL_2D": pool("AveragePool", count_include_pad=0),
    "MAX_POOL_2D": pool("MaxPool"),
    "RESIZE_BILINEAR": resize("linear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
    "DEPTH_TO_SPACE": depth_to_space("DepthToSpace"),
    "SPACE_TO_DEPTH": depth_to_space("SpaceToDepth"),
}
