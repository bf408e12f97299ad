"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.images import image, image_out, reshaped
from edgewright.targets._tflite.rules.padding import cut, pad_with, sliced
from edgewright.targets._tflite.rules.window import SAME, VALID, Window, window_of
from edgewright.targets._tflite.weights import Change

_DENSE = 4
"""Groups up to which zeros between them cost less than moving data for a depthwise convolution."""
_PERMS = {3: (1, 2, 0), 4: (1, 2, 3, 0), 5: (2, 3, 4, 1, 0)}


def conv_transpose(e: Emission, node: ir.Node) -> None:
    """TRANSPOSE_CONV, of volumes CONV_3D_TRANSPOSE; what the pads cut off is sliced off where no scheme does it.

    TensorFlow Lite has neither groups nor dilations here: the kernel holds zeros instead.
    """
    window = _window(e, node)
    rank, group = len(e.shape(node, 0)), node.attributes.get_int("group", 1) or 1
    if rank == 4 and group > _DENSE and e.shape(node, 1)[:2] == (group, 1):
        _depthwise(e, node, window)
        return
    change = _rearranged(window.dilations, group, rank)
    weights = e.weights(node, 1, _PERMS[rank], change=change)
    if rank == 3:
        window = window.axes(-1, 0)
    data = image(e, node)
    bias = e.bias(node, 2, data, weights, e.out_shape(node)[-1])
    with image_out(e, node) as last:
        _slide(e, node, window, [weights, data, bias], last)


def _slide(e: Emission, node: ir.Node, window: Window, operands: Sequence[int], last: int) -> None:
    padding = _scheme(window)
    shape = e.tensor(last).shape
    whole = tuple(max(b + o, f) for (b, _), o, f in zip(window.pads, window.out, _full(window), strict=True))
    made = last
    if padding is None:
        made = e.temp(last, (shape[0], *whole, shape[-1]), f"{node.name}/whole")
    sizes = e.const(np.asarray(e.tensor(made).shape, np.int32), f"{node.name}/sizes")
    fields: dict[str, Any] = {"padding": VALID if padding is None else padding}
    fields["fusedActivationFunction"] = e.activation(node)
    for axis, stride in zip("DHW"[-len(window.strides) :], window.strides, strict=True):
        fields[f"stride{axis}"] = stride
    if len(shape) == 5:
        fields |= {f"dilation{axis}Factor": 1 for axis in "DHW"}
        e.op("CONV_3D_TRANSPOSE", [sizes, *operands], [made], "Conv3DOptions", **fields)
    else:
        version = 4 if fields["fusedActivationFunction"] else 3
        e.op("TRANSPOSE_CONV", [sizes, *operands], [made], "TransposeConvOptions", version=version, **fields)
    if padding is None:
        begin = [0, *(before for before, _ in window.pads), 0]
        sliced(e, made, begin, shape, node.name or "crop", into=last)


def _depthwise(e: Emission, node: ir.Node, window: Window) -> None:
    """DEPTHWISE_CONV_2D with the kernel turned around, over the input with zeros between its elements."""
    data = _spread(e, e.input(node, 0), window.strides, node.name or "spread")
    sizes = e.tensor(data).shape[1:3]
    each = list(zip(window.reach, window.pads, window.out, sizes, strict=True))
    before = [reach - 1 - low for reach, (low, _), _, _ in each]
    after = [o - 1 + reach - n - low for (reach, _, o, n), low in zip(each, before, strict=True)]
    pads = [(0, 0), *zip(before, after, strict=True), (0, 0)]
    data = cut(e, data, pads, node.name or "cut")
    grown = [(max(low, 0), max(high, 0)) for low, high in pads]
    if any(map(any, grown)):
        data = pad_with(e, data, grown, node.name or "pad")
    weights = e.weights(node, 1, (1, 2, 3, 0), change=_TURNED)
    bias = e.bias(node, 2, data, weights, e.out_shape(node)[-1])
    e.op(
        "DEPTHWISE_CONV_2D",
        [data, weights, bias],
        [e.output(node)],
        "DepthwiseConv2DOptions",
        padding=VALID,
        strideH=1,
        strideW=1,
        dilationHFactor=window.dilations[0],
        dilationWFactor=window.dilations[1],
        depthMultiplier=1,
        fusedActivationFunction=e.activation(node),
    )


def _spread(e: Emission, data: int, strides: Sequence[int], name: str) -> int:
    """Returns [N, H, W, C] with zeros behind every element, so many that strides lie between them."""
    n, height, width, channels = e.tensor(data).shape
    rows, columns = strides
    if columns > 1:
        single = reshaped(e, data, (n * height, width, 1, channels), f"{name}/columns")
        data = pad_with(e, single, [(0, 0), (0, 0), (0, columns - 1), (0, 0)], f"{name}/columns")
    if rows > 1:
        single = reshaped(e, data, (n, height, 1, width * columns * channels), f"{name}/rows")
        data = pad_with(e, single, [(0, 0), (0, 0), (0, rows - 1), (0, 0)], f"{name}/rows")
    return reshaped(e, data, (n, height * rows, width * columns, channels), f"{name}/spread")


def _turned(array: NDArray[Any]) -> NDArray[Any]:
    return array[:, ::-1, ::-1]


def _window(e: Emission, node: ir.Node) -> Window:
    """Reads the window; pads follow from the output's size where that is what the model declares."""
    size, out = e.shape(node, 0)[1:-1], e.out_shape(node)[1:-1]
    kernel = e.shape(node, 1)[2:]
    said = window_of(node, kernel, size, out)
    auto = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if auto in ("NOTSET", "VALID") and not node.attributes.get_ints("output_shape"):
        return said
    extra = node.attributes.get_ints("output_padding") or [0] * len(kernel)
    totals = [max(full + more - o, 0) for full, more, o in zip(_full(said), extra, out, strict=True)]
    upper = auto == "SAME_UPPER"
    pads = tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals)
    return Window(said.kernel, said.strides, said.dilations, pads, said.size, said.out)


def _full(window: Window) -> tuple[int, ...]:
    """Sizes before anything is cut off."""
    return tuple((n - 1) * s + r for n, s, r in zip(window.size, window.strides, window.reach, strict=True))


def _scheme(window: Window) -> int | None:
    each = list(zip(window.size, window.strides, _full(window), window.out, window.pads, strict=True))
    if all(before == 0 and out >= full for _, _, full, out, (before, _) in each):
        return VALID
    if all(-(-out // s) == n and max(full - out, 0) // 2 == before for n, s, full, out, (before, _) in each):
        return SAME
    return None


def _rearranged(dilations: Sequence[int], group: int, rank: int) -> Change | None:
    """Returns what must be done to weights of [O / group, spatial..., I] (of volumes [spatial..., O / group, I])."""
    first = 0 if rank == 5 else 1
    outputs = rank - 2 if rank == 5 else 0
    if rank > 3 and group == 1 and set(dilations) == {1}:
        return None

    def apply(array: NDArray[Any]) -> NDArray[Any]:
        for axis, dilation in enumerate(dilations, first):
            array = _dilated(array, axis, dilation)
        array = _block_diagonal(array, outputs, group)
        return np.expand_dims(array, 1) if rank == 3 else array

    return Change(f"transposed {tuple(dilations)} {group}", apply)


def _dilated(array: NDArray[Any], axis: int, dilation: int) -> NDArray[Any]:
    shape = list(array.shape)
    shape[axis] = (shape[axis] - 1) * dilation + 1
    made = np.zeros(shape, array.dtype)
    made[(slice(None),) * axis + (slice(None, None, dilation),)] = array
    return made


def _block_diagonal(array: NDArray[Any], outputs: int, group: int) -> NDArray[Any]:
    """Spreads the groups, which follow each other along the last axis, over as many outputs."""
    if group == 1:
        return array
    parts = np.split(array, group, axis=-1)
    rows = [[part if i == j else np.zeros_like(part) for j in range(group)] for i, part in enumerate(parts)]
    return np.concatenate([np.concatenate(row, axis=-1) for row in rows], axis=outputs)


_TURNED = Change("turned", _turned)

RULES: Rules = {(DOMAIN, "ConvTranspose"): conv_transpose}
