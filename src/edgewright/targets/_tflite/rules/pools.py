"""Pools, channels-last."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.channels_last import DOMAIN
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.file import Quantisation
from edgewright.targets._tflite.fusion import NONE, clip_limits
from edgewright.targets._tflite.rules import Rule, Rules
from edgewright.targets._tflite.rules.images import image, image_out, reshape_into, reshaped
from edgewright.targets._tflite.rules.padding import LOWEST, pad_with, padded, sliced
from edgewright.targets._tflite.rules.spatial import sliding
from edgewright.targets._tflite.rules.window import VALID, Window, window_of

_Emit = Callable[[Emission, ir.Node, int, Window, str, int, int], None]
_KEEPS_SIGN = frozenset({
    "MaxPool", "AveragePool", "GlobalAveragePool", "QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape",
    "Dropout", "Identity",
})  # fmt: skip
_POSITIVE = frozenset({"Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp"})


def max_pool(e: Emission, node: ir.Node) -> None:
    """MAX_POOL_2D; volumes take two, along the plane and along the depth."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise StepFailed(
            f"LiteRT: MaxPool {node.name} also gives the indices of its maxima, which is not supported",
            hint="upsample without MaxUnpool, or leave this target out",
        )
    _pool(e, node, _max)


def average_pool(e: Emission, node: ir.Node) -> None:
    """AVERAGE_POOL_2D; where its windows average another number of elements than the model's, corrected by MUL."""
    _pool(e, node, _average)


def _pool(e: Emission, node: ir.Node, emit: _Emit) -> None:
    shape = e.shape(node, 0)
    window = window_of(node, node.attributes.get_ints("kernel_shape") or (), shape[1:-1], e.out_shape(node)[1:-1])
    name, code = node.name or "pool", e.activation(node)
    if len(shape) == 5:
        _volume(e, node, window, emit, code)
        return
    with image_out(e, node) as last:
        emit(e, node, image(e, node), window.axes(-1, 0) if len(shape) == 3 else window, name, last, code)


def _volume(e: Emission, node: ir.Node, window: Window, emit: _Emit, code: int) -> None:
    last, (n, depth, height, width, channels) = e.output(node), e.shape(node, 0)
    _, out_depth, *plane, _ = e.tensor(last).shape
    data = reshaped(e, e.input(node, 0), (n * depth, height, width, channels), f"{node.name}/planes")
    flat = e.temp(data, (n * depth, *plane, channels), f"{node.name}/pooled_planes")
    emit(e, node, data, window.axes(1, 2), f"{node.name}/plane", flat, NONE)
    columns = reshaped(e, flat, (n, depth, plane[0] * plane[1], channels), f"{node.name}/columns")
    made = e.temp(last, (n, out_depth, plane[0] * plane[1], channels), f"{node.name}/pooled_columns")
    emit(e, node, columns, window.axes(0, -1), f"{node.name}/depth", made, code)
    reshape_into(e, made, last)


def _max(e: Emission, node: ir.Node, data: int, window: Window, name: str, last: int, code: int) -> None:
    lowest = 0.0 if e.tensor(data).quantisation is None and never_negative(node.inputs[0]) else LOWEST
    if any(k > 1 and d > 1 for k, d in zip(window.kernel, window.dilations, strict=True)):
        _dilated_max(e, data, window, name, last, code)
        return
    data, padding = padded(e, data, window, name, value=lowest)
    _emit_pool(e, "MAX_POOL_2D", data, window, padding, last, code)


def _average(e: Emission, node: ir.Node, data: int, window: Window, name: str, last: int, code: int) -> None:
    included = bool(node.attributes.get_int("count_include_pad", 0))
    counts = window.counts(declared=included)
    dilated = any(k > 1 and d > 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    scheme = window.scheme()
    if not dilated and scheme is not None and np.array_equal(counts, window.counts(declared=False)):
        _emit_pool(e, "AVERAGE_POOL_2D", data, window, scheme, last, code)
        return
    needed = window.needed()
    if any(map(any, needed)):
        data = pad_with(e, data, ((0, 0), *needed, (0, 0)), name)
    share = float(np.prod(window.kernel)) / counts
    exact = bool((share == 1.0).all())
    made = last if exact else e.temp(data, e.tensor(last).shape, f"{name}/averaged")
    emit = _weighted if dilated else _plain_average
    emit(e, data, window, name, made, code if exact else NONE)
    if not exact:
        factor = e.const(*_factor(e, data, share, name))
        e.op("MUL", [made, factor], [last], "MulOptions", fusedActivationFunction=code)


def _plain_average(e: Emission, data: int, window: Window, name: str, made: int, code: int) -> None:
    _emit_pool(e, "AVERAGE_POOL_2D", data, window, VALID, made, code)


def _emit_pool(e: Emission, op: str, data: int, window: Window, padding: int, last: int, code: int) -> None:
    fields = {**sliding(window, padding), "filterHeight": window.kernel[0], "filterWidth": window.kernel[1]}
    e.op(op, [data], [last], "Pool2DOptions", fusedActivationFunction=code, **fields)


def _factor(
    e: Emission, data: int, share: NDArray[np.float64], name: str
) -> tuple[NDArray[np.generic], str, Quantisation | None]:
    """Returns [1, H, W, 1] by which averages are corrected; integers stand in a scale in which 1 is exact."""
    lanes = share[None, ..., None]
    label = f"{name}/share"
    kind = e.tensor(data).dtype
    if e.tensor(data).quantisation is None:
        return lanes.astype(kind), label, None
    top = np.iinfo(kind).max
    steps = np.arange(1, int(top / share.max()) + 1)
    errors = [np.abs(np.rint(lanes * step) / step / lanes - 1).max() for step in steps]
    best = int(steps[int(np.argmin(errors))])
    return np.rint(lanes * best).astype(kind), label, Quantisation((1.0 / best,), (0,))


def _weighted(e: Emission, data: int, window: Window, name: str, made: int, code: int) -> None:
    """Averages taps that lie apart: a depthwise convolution with equal weights."""
    channels, area = e.tensor(data).shape[-1], float(np.prod(window.kernel))
    shape = (1, *window.kernel, channels)
    given = e.tensor(data).quantisation
    if given is None:
        weights = e.const(np.full(shape, 1.0 / area, np.float32), f"{name}/equal")
        bias = e.const(np.zeros(channels, np.float32), f"{name}/none")
    else:
        scale = (1.0 / area / 127.0,) * channels
        weights = e.const(np.full(shape, 127, np.int8), f"{name}/equal", Quantisation(scale, (0,) * channels, 3))
        kind = np.int64 if e.tensor(data).dtype == "int16" else np.int32
        of_bias = Quantisation(tuple(each * given.scale[0] for each in scale), (0,) * channels, 0)
        bias = e.const(np.zeros(channels, kind), f"{name}/none", of_bias)
    fields = {**sliding(window, VALID), "depthMultiplier": 1, "fusedActivationFunction": code}
    fields |= {"dilationHFactor": window.dilations[0], "dilationWFactor": window.dilations[1]}
    e.op("DEPTHWISE_CONV_2D", [data, weights, bias], [made], "DepthwiseConv2DOptions", **fields)


def _dilated_max(e: Emission, data: int, window: Window, name: str, last: int, code: int) -> None:
    """Takes the maximum of shifted parts, along one axis after the other."""
    needed = window.needed()
    if any(map(any, needed)):
        data = pad_with(e, data, ((0, 0), *needed, (0, 0)), name, value=LOWEST)
    for axis in range(2):
        if window.kernel[axis] == window.strides[axis] == 1:
            continue
        parts = [_taps(e, data, window, axis, tap, f"{name}/tap_{axis}_{tap}") for tap in range(window.kernel[axis])]
        data = parts[0]
        for index, part in enumerate(parts[1:]):
            made = e.temp(data, e.tensor(data).shape, f"{name}/max_{axis}_{index}")
            e.op("MAXIMUM", [data, part], [made], "MaximumMinimumOptions")
            data = made
    activation = {NONE: "", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}[code]
    if activation:
        e.op(activation, [data], [last])
    else:
        reshape_into(e, data, last)


def _taps(e: Emission, data: int, window: Window, axis: int, tap: int, name: str) -> int:
    """Returns what one tap of every window sees along an axis."""
    shape = list(e.tensor(data).shape)
    begin, stride = [0] * 4, [1] * 4
    begin[axis + 1], stride[axis + 1] = tap * window.dilations[axis], window.strides[axis]
    reach = (window.out[axis] - 1) * window.strides[axis] + 1
    end = [*shape]
    end[axis + 1] = begin[axis + 1] + reach
    shape[axis + 1] = window.out[axis]
    if window.strides[axis] == 1:
        return sliced(e, data, begin, shape, name)
    made = e.temp(data, shape, name)
    operands = [e.const(np.asarray(numbers, np.int32), f"{name}/part") for numbers in (begin, end, stride)]
    e.op("STRIDED_SLICE", [data, *operands], [made], "StridedSliceOptions")
    return made


def never_negative(value: ir.Value | None) -> bool:
    """Says whether a value is known to hold nothing below zero: then zeros do to pad a maximum."""
    node = value.producer() if value is not None else None
    if node is None or value is None:
        return False
    if node.op_type in _POSITIVE:
        return True
    if node.op_type == "Clip":
        limits = clip_limits(node)
        return limits is not None and limits[0] >= 0.0
    if node.op_type == "Concat":
        return all(map(never_negative, node.inputs))
    return node.op_type in _KEEPS_SIGN and never_negative(node.inputs[0])


def _over_space(op: str) -> Rule:
    def rule(e: Emission, node: ir.Node) -> None:
        axes = np.arange(1, len(e.shape(node, 0)) - 1, dtype=np.int32)
        operands: Sequence[int] = [e.input(node, 0), e.const(axes, "spatial_axes")]
        e.op(op, operands, [e.output(node)], "ReducerOptions", keepDims=True)

    return rule


RULES: Rules = {
    (DOMAIN, "MaxPool"): max_pool,
    (DOMAIN, "AveragePool"): average_pool,
    (DOMAIN, "GlobalAveragePool"): _over_space("MEAN"),
    (DOMAIN, "GlobalMaxPool"): _over_space("REDUCE_MAX"),
}
