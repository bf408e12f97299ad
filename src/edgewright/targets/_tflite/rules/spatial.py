"""Convolutions, channels-last."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.images import image, image_out, reshaped
from edgewright.targets._tflite.rules.padding import padded
from edgewright.targets._tflite.rules.window import Window, window_of
from edgewright.targets._tflite.weights import Change

_OHWI, _1HWO, _DHWIO = (0, 2, 3, 1), (1, 2, 3, 0), (2, 3, 4, 1, 0)
_OWI, _1WO = (0, 2, 1), (1, 2, 0)


def conv(e: Emission, node: ir.Node) -> None:
    """CONV_2D, DEPTHWISE_CONV_2D where every group has one input channel, CONV_3D."""
    rank = len(e.shape(node, 0))
    window = window_of(node, e.shape(node, 1)[2:], e.shape(node, 0)[1:-1], e.out_shape(node)[1:-1])
    if rank == 5:
        _conv_3d(e, node, window)
        return
    if rank == 3:
        window = window.axes(-1, 0)
    data, padding = padded(e, image(e, node), window, node.name or "conv")
    group = node.attributes.get_int("group", 1) or 1
    depthwise = group > 1 and e.shape(node, 1)[1] == 1
    weights = kernel(e, node, depthwise=depthwise)
    bias = e.bias(node, 2, data, weights, e.shape(node, 1)[0])
    fields = {**sliding(window, padding), "fusedActivationFunction": e.activation(node)}
    fields |= {"dilationHFactor": window.dilations[0], "dilationWFactor": window.dilations[1]}
    with image_out(e, node) as last:
        if depthwise:
            fields["depthMultiplier"] = e.shape(node, 1)[0] // group
            e.op("DEPTHWISE_CONV_2D", [data, weights, bias], [last], "DepthwiseConv2DOptions", **fields)
        else:
            e.op("CONV_2D", [data, weights, bias], [last], "Conv2DOptions", **fields)


def kernel(e: Emission, node: ir.Node, *, depthwise: bool) -> int:
    """Returns weights as [O, H, W, I], for a depthwise convolution as [1, H, W, O]; a 1-D kernel has height 1."""
    if len(e.shape(node, 1)) == 4:
        return e.weights(node, 1, _1HWO if depthwise else _OHWI, hybrid=True)
    perm = _1WO if depthwise else _OWI
    if e.constant(node, 1) is not None:
        return e.weights(node, 1, perm, hybrid=True, change=_HEIGHT)
    computed = e.weights(node, 1, perm)
    shape = e.tensor(computed).shape
    return reshaped(e, computed, (shape[0], 1, *shape[1:]), f"{node.name}/kernel")


def sliding(window: Window, padding: int) -> dict[str, Any]:
    """Returns the options that convolutions and pools of images share."""
    return {"padding": padding, "strideH": window.strides[0], "strideW": window.strides[1]}


def _conv_3d(e: Emission, node: ir.Node, window: Window) -> None:
    if (node.attributes.get_int("group", 1) or 1) > 1:
        raise StepFailed(
            f"LiteRT: 3-D convolution {node.name} in groups is not supported",
            hint="split it into one convolution per group, or leave this target out",
        )
    data, padding = padded(e, e.input(node, 0), window, node.name or "conv")
    weights = e.weights(node, 1, _DHWIO)
    bias = e.bias(node, 2, data, weights, e.shape(node, 1)[0])
    fields: dict[str, Any] = {"padding": padding, "fusedActivationFunction": e.activation(node)}
    for axis, stride, dilation in zip("DHW", window.strides, window.dilations, strict=True):
        fields |= {f"stride{axis}": stride, f"dilation{axis}Factor": dilation}
    e.op("CONV_3D", [data, weights, bias], [e.output(node)], "Conv3DOptions", **fields)


def _with_height(array: NDArray[Any]) -> NDArray[Any]:
    return np.expand_dims(array, 1)


_HEIGHT = Change("height", _with_height)

RULES: Rules = {(DOMAIN, "Conv"): conv}
