"""Convolutions and pools, channels-last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules

SAME, VALID = 0, 1
_OHWI, _1HWO = (0, 2, 3, 1), (1, 2, 3, 0)


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window: sizes along (height, width); `pads` as ((top, bottom), (left, right))."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]


def conv(e: Emission, node: ir.Node) -> None:
    """CONV_2D, or DEPTHWISE_CONV_2D where every group has one input channel."""
    weights_shape = e.shape(node, 1)
    group = node.attributes.get_int("group", 1) or 1
    window = window_of(node, weights_shape[2:], e.shape(node, 0)[1:3])
    data, padding = padded(e, node, window, e.out_shape(node)[1:3], value=0.0)
    depthwise = group > 1 and weights_shape[1] == 1 and group == e.shape(node, 0)[3]
    weights = e.weights(node, 1, _1HWO if depthwise else _OHWI, hybrid=True)
    bias = e.bias(node, 2, data, weights, weights_shape[0])
    fields = {
        "padding": padding,
        "strideH": window.strides[0],
        "strideW": window.strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": e.activation(node),
    }
    if depthwise:
        e.op(
            "DEPTHWISE_CONV_2D",
            [data, weights, bias],
            [e.output(node)],
            "DepthwiseConv2DOptions",
            depthMultiplier=weights_shape[0] // group,
            **fields,
        )
    else:
        e.op("CONV_2D", [data, weights, bias], [e.output(node)], "Conv2DOptions", **fields)


def global_average_pool(e: Emission, node: ir.Node) -> None:
    """MEAN over height and width."""
    axes = e.const(np.asarray([1, 2], np.int32), "height_width")
    e.op("MEAN", [e.input(node, 0), axes], [e.output(node)], "ReducerOptions", keepDims=True)


def window_of(node: ir.Node, kernel: Sequence[int], size: Sequence[int]) -> Window:
    """Reads the attributes that convolutions and pools share; `auto_pad` is worked out."""
    strides = node.attributes.get_ints("strides") or [1, 1]
    dilations = node.attributes.get_ints("dilations") or [1, 1]
    auto = node.attributes.get_string("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [_same(n, k, s, d, auto) for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)]
    else:
        said = node.attributes.get_ints("pads") or [0, 0, 0, 0]
        pads = [(said[0], said[2]), (said[1], said[3])]
    return Window((kernel[0], kernel[1]), (strides[0], strides[1]), (dilations[0], dilations[1]), (pads[0], pads[1]))


def _same(size: int, kernel: int, stride: int, dilation: int, auto: str | None) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    small, large = total // 2, total - total // 2
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def padded(e: Emission, node: ir.Node, window: Window, out: Sequence[int], *, value: float) -> tuple[int, int]:
    """Returns the data to slide over and the padding scheme; a PAD is emitted where neither scheme gives the pads."""
    data, size = e.input(node, 0), e.shape(node, 0)
    if window.pads == ((0, 0), (0, 0)):
        return data, VALID
    same = tuple(
        _same(n, k, s, d, "SAME_UPPER")
        for n, k, s, d in zip(size[1:3], window.kernel, window.strides, window.dilations, strict=True)
    )
    if same == window.pads and all(o == -(-n // s) for o, n, s in zip(out, size[1:3], window.strides, strict=True)):
        return data, SAME
    pads = ((0, 0), *window.pads, (0, 0))
    shape = [n + before + after for n, (before, after) in zip(size, pads, strict=True)]
    made = e.temp(data, shape, f"{node.name}/padded")
    amounts = e.const(np.asarray(pads, np.int32), f"{node.name}/pads")
    if value == 0.0:
        e.op("PAD", [data, amounts], [made], "PadOptions")
    else:
        e.op("PADV2", [data, amounts, fill(e, data, value, node)], [made], "PadV2Options")
    return made, VALID


def fill(e: Emission, data: int, value: float, node: ir.Node) -> int:
    """Returns a scalar of the type of `data` to pad with; the smallest one for minus infinity."""
    tensor = e.tensor(data)
    kind = np.dtype(tensor.dtype)
    if tensor.quantisation is None:
        return e.const(np.asarray(max(value, float(np.finfo(np.float32).min)), kind), f"{node.name}/fill")
    limits = np.iinfo(kind)
    integer = np.clip(value / tensor.quantisation.scale[0] + tensor.quantisation.zero_point[0], limits.min, limits.max)
    return e.const(np.asarray(round(float(integer)), kind), f"{node.name}/fill", tensor.quantisation)


RULES: Rules = {
    (DOMAIN, "Conv"): conv,
    (DOMAIN, "GlobalAveragePool"): global_average_pool,
}
