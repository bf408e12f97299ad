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
from edgewright.targets._tflite.rules.images import image, image_out
from edgewright.targets._tflite.rules.padding import sliced
from edgewright.targets._tflite.rules.window import SAME, VALID, Window, window_of
from edgewright.targets._tflite.weights import Change

_PERMS = {3: (1, 2, 0), 4: (1, 2, 3, 0), 5: (2, 3, 4, 1, 0)}


def conv_transpose(e: Emission, node: ir.Node) -> None:
    """TRANSPOSE_CONV, of volumes CONV_3D_TRANSPOSE; what the pads cut off is sliced off where no scheme does it.

    TensorFlow Lite has neither groups nor dilations here: the kernel holds zeros instead.
    """
    window = _window(e, node)
    rank = len(e.shape(node, 0))
    change = _rearranged(window.dilations, node.attributes.get_int("group", 1) or 1, rank)
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


RULES: Rules = {(DOMAIN, "ConvTranspose"): conv_transpose}
