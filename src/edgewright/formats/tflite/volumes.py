"""Rules for convolutions over volumes, [N, depth, height, width, C]."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule
from edgewright.formats.tflite.reader import TfliteOperator
from edgewright.formats.tflite.spatial import bias

_FIRST, _LAST = (0, 4, 1, 2, 3), (0, 2, 3, 4, 1)
_SAME = 0
_AXES = "dhw"


def conv_3d(e: Emitter, op: TfliteOperator) -> None:
    """CONV_3D: weights [depth, height, width, in / groups, out]."""
    data, kernel = op.inputs[0], e.tensor(op.inputs[1]).shape
    strides, dilations = _triple(op, "stride"), _triple(op, "dilation")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel[:3], dilations, strict=True)]
    totals = [0, 0, 0]
    if op.options["padding"] == _SAME:
        sizes = e.tensor(data).shape[1:4]
        totals = [max((math.ceil(n / s) - 1) * s + k - n, 0) for n, s, k in zip(sizes, strides, spans, strict=True)]
    groups = e.tensor(data).shape[4] // kernel[3]
    inputs = [e.weights(data, _FIRST), e.weights(op.inputs[1], (4, 3, 0, 1, 2)), *bias(e, op, 2, data)]
    name = e.tensor(op.outputs[0]).name
    how = {"strides": strides, "dilations": dilations, "pads": _halves(totals), "group": groups}
    value = e.node("Conv", inputs, f"{name}_first", kernel_shape=list(kernel[:3]), **how)
    value = e.node("Transpose", [value], name, perm=_LAST)
    e.store(op.outputs[0], value, first=False, activation=op.options["activation"])


def conv_3d_transpose(e: Emitter, op: TfliteOperator) -> None:
    """CONV_3D_TRANSPOSE: inputs are output shape, weights [depth, height, width, out, in], value and bias."""
    data, kernel = op.inputs[2], e.tensor(op.inputs[1]).shape
    strides, dilations = _triple(op, "stride"), _triple(op, "dilation")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel[:3], dilations, strict=True)]
    wanted = e.tensor(op.outputs[0]).shape[1:4]
    full = [(n - 1) * s + k for n, s, k in zip(e.tensor(data).shape[1:4], strides, spans, strict=True)]
    inputs = [e.weights(data, _FIRST), e.weights(op.inputs[1], (4, 3, 0, 1, 2)), *bias(e, op, 3, data)]
    name = e.tensor(op.outputs[0]).name
    value = e.node(
        "ConvTranspose",
        inputs,
        f"{name}_first",
        strides=strides,
        dilations=dilations,
        pads=_halves([max(f - w, 0) for f, w in zip(full, wanted, strict=True)]),
        output_padding=[max(w - f, 0) for f, w in zip(full, wanted, strict=True)],
    )
    value = e.node("Transpose", [value], name, perm=_LAST)
    e.store(op.outputs[0], value, first=False, activation=op.options["activation"])


def _triple(op: TfliteOperator, what: str) -> list[int]:
    return [op.options[f"{what}_{axis}"] for axis in _AXES]


def _halves(totals: Sequence[int]) -> list[int]:
    return [t // 2 for t in totals] + [t - t // 2 for t in totals]


RULES: dict[str, Rule] = {"CONV_3D": conv_3d, "CONV_3D_TRANSPOSE": conv_3d_transpose}
