"""One-operator models for every kernel of TensorFlow Lite Micro that Edgewright knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgewright.targets._micro.kernels import camel
from edgewright.targets._tflite.file import Quantisation
from edgewright.testing._micro_models import SAME, Int8Net, pad

SHAPE = (1, 8, 8, 4)
_INT16_UNIT = Quantisation((1 / 32768,), (0,))
_WIDTHS = np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)
_FIXED = {"LOG_SOFTMAX": Quantisation((16 / 256,), (127,)), "L2_NORMALIZATION": Quantisation((1 / 128,), (0,))}
_WITH_OPTIONS = ("HARD_SWISH", "ABS", "NEG", "EXP", "SQUARE", "COS", "ZEROS_LIKE")
_OF_TWO = ("ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "FLOOR_MOD")
_BARE = ["RELU", "RELU6", "LOGISTIC", "TANH", "ELU", "SQRT", "RSQRT", "LOG", "SIN", "FLOOR", "CEIL", "ROUND"]


class OneOperator(Int8Net):
    """A network of one operator; `more` inputs and outputs beside the first."""

    def __init__(self, dtype: str) -> None:
        real = dtype if dtype in ("int8", "int16", "float32") else "float32"
        super().__init__(SHAPE, dtype=real)
        self.kind = dtype
        if dtype != real:
            self.first = self.last = self.file.tensor("first", dtype, SHAPE)
        self.inputs, self.outputs = [self.first], [self.last]

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str = "") -> int:
        """Adds a computed tensor of the operator's own type, or of another."""
        if dtype or self.kind != self.dtype:
            return self.file.tensor(name, dtype or self.kind, shape)
        return self.activation(shape, name)

    def second(self, shape: tuple[int, ...] = SHAPE) -> int:
        """Adds another input."""
        self.inputs.append(self.tensor("second", shape))
        return self.inputs[-1]

    def ints(self, *values: Any) -> int:
        """Adds a constant of int32."""
        return self.constant(np.array(values, np.int32))

    def emit(self, op: str, reads: list[int], shapes: Sequence[tuple[int, ...]], options: str, **fields: Any) -> None:
        """Adds an operator with outputs of the operator's type."""
        self.outputs = [self._result(op, shape, at) for at, shape in enumerate(shapes)]
        self.file.operator(op, reads, self.outputs, options, **fields)

    def _result(self, op: str, shape: tuple[int, ...], at: int) -> int:
        if self.kind == "int16" and op in ("LOGISTIC", "TANH", "SOFTMAX"):
            return self.file.tensor(f"out{at}", "int16", shape, quantisation=_INT16_UNIT)
        if self.kind == "int8" and op in ("SOFTMAX", "LOGISTIC", "TANH", *_FIXED):
            known = {"TANH": Quantisation((1 / 128,), (0,)), **_FIXED}.get(op, Quantisation((1 / 256,), (-128,)))
            return self.file.tensor(f"out{at}", "int8", shape, quantisation=known)
        return self.tensor(f"out{at}", shape)

    def packed(self) -> bytes:
        """Returns the file."""
        inputs = {f"i{at}": number for at, number in enumerate(self.inputs)}
        return self.file.finish(inputs, {f"o{at}": number for at, number in enumerate(self.outputs)})


Make = Callable[[OneOperator], object]


def _unary(op: str, options: str = "", shape: tuple[int, ...] = SHAPE, **fields: Any) -> Make:
    return lambda net: net.emit(op, [net.first], [shape], options, **fields)


def _binary(op: str, options: str = "", shape: tuple[int, ...] = SHAPE, **fields: Any) -> Make:
    return lambda net: net.emit(op, [net.first, net.second()], [shape], options, **fields)


def _indexed(op: str, options: str, shape: tuple[int, ...], *constants: Any, **fields: Any) -> Make:
    return lambda net: net.emit(op, [net.first, *(net.ints(*c) for c in constants)], [shape], options, **fields)


def _typed(op: str, options: str, dtype: str, shape: tuple[int, ...] = SHAPE, **fields: Any) -> Make:
    def make(net: OneOperator) -> None:
        scaled = Quantisation((0.2,), (0,)) if dtype == "int8" else None
        net.outputs = [net.file.tensor("out", dtype, shape, quantisation=scaled)]
        net.file.operator(op, [net.first], net.outputs, options, **fields)

    return make


def _argument(op: str, options: str) -> Make:
    def make(net: OneOperator) -> None:
        net.outputs = [net.file.tensor("out", "int32", (1, 8, 8))]
        net.file.operator(op, [net.first, net.ints(3)], net.outputs, options, outputType=2)

    return make


def _compared(op: str) -> Make:
    def make(net: OneOperator) -> None:
        net.outputs = [net.file.tensor("out", "bool", SHAPE)]
        net.file.operator(op, [net.first, net.second()], net.outputs, f"{camel(op)}Options")

    return make


def _chosen(net: OneOperator) -> None:
    net.inputs.append(net.file.tensor("condition", "bool", SHAPE))
    net.emit("SELECT_V2", [net.inputs[1], net.first, net.second()], [SHAPE], "SelectV2Options")


def _layer(build: Callable[[OneOperator], int]) -> Make:
    def make(net: OneOperator) -> None:
        net.outputs = [build(net)]

    return make


def _transposed(net: OneOperator) -> int:
    inputs = [net.ints(1, 16, 16, 8), net.weights((8, 3, 3, 4), 0), net.first, net.bias(8)]
    fields = {"padding": SAME, "strideW": 2, "strideH": 2}
    return net.op("TRANSPOSE_CONV", inputs, (1, 16, 16, 8), "TransposeConvOptions", **fields)


def _padded(net: OneOperator) -> int:
    kind = {"int8": np.int8, "int16": np.int16}.get(net.dtype, np.float32)
    value = net.constant(np.array([0], kind), "value", net.file.tensors[net.first].quantisation)
    return net.op("PADV2", [net.first, net.ints(*_WIDTHS), value], (1, 10, 10, 4), "PadV2Options")


def _dense(net: OneOperator, per_channel: bool) -> int:
    net.flatten()
    return net.dense(8, per_channel=per_channel)


def _product(net: OneOperator) -> None:
    net.emit("BATCH_MATMUL", [net.first, net.second((1, 8, 4, 8))], [(1, 8, 8, 8)], "BatchMatMulOptions")


def _split(net: OneOperator) -> None:
    net.emit("SPLIT", [net.ints(3), net.first], [(1, 8, 8, 2)] * 2, "SplitOptions", numSplits=2)


def _split_unevenly(net: OneOperator) -> None:
    reads, shapes = [net.first, net.ints(1, 3), net.ints(3)], [(1, 8, 8, 1), (1, 8, 8, 3)]
    net.emit("SPLIT_V", reads, shapes, "SplitVOptions", numSplits=2)


def _batched(net: OneOperator) -> None:
    net.first = net.tensor("batches", (4, 4, 4, 4))
    net.inputs = [net.first]
    reads = [net.first, net.ints(2, 2), net.ints((0, 0), (0, 0))]
    net.emit("BATCH_TO_SPACE_ND", reads, [SHAPE], "BatchToSpaceNDOptions")


def _filled(net: OneOperator) -> None:
    net.first = net.tensor("value", ())
    net.inputs = [net.first]
    net.emit("FILL", [net.ints(*SHAPE), net.first], [SHAPE], "FillOptions")


_MOVED = (1, 4, 8, 8)
_REDUCED = (1, 1, 1, 4)
CASES: Mapping[str, Make] = MappingProxyType(
    {
        **{op: _unary(op) for op in _BARE},
        **{op: _unary(op, f"{camel(op)}Options") for op in _WITH_OPTIONS},
        "LEAKY_RELU": _unary("LEAKY_RELU", "LeakyReluOptions", alpha=0.1),
        "L2_NORMALIZATION": _unary("L2_NORMALIZATION", "L2NormOptions"),
        "SOFTMAX": _unary("SOFTMAX", "SoftmaxOptions", beta=1.0),
        "LOG_SOFTMAX": _unary("LOG_SOFTMAX", "LogSoftmaxOptions"),
        **{op: _binary(op, f"{camel(op)}Options") for op in _OF_TWO},
        **{op: _binary(op, "MaximumMinimumOptions") for op in ("MAXIMUM", "MINIMUM")},
        "PRELU": _binary("PRELU"),
        "CONCATENATION": _binary("CONCATENATION", "ConcatenationOptions", (1, 8, 8, 8), axis=3),
        "PACK": _binary("PACK", "PackOptions", (1, 2, 8, 8, 4), axis=1, valuesCount=2),
        "BATCH_MATMUL": _product,
        "CONV_2D": _layer(lambda net: net.conv(8)),
        "DEPTHWISE_CONV_2D": _layer(lambda net: net.depthwise()),
        "TRANSPOSE_CONV": _layer(_transposed),
        "FULLY_CONNECTED": _layer(lambda net: _dense(net, True)),
        "AVERAGE_POOL_2D": _layer(lambda net: net.pool()),
        "MAX_POOL_2D": _layer(lambda net: net.pool("MAX_POOL_2D")),
        "L2_POOL_2D": _layer(lambda net: net.pool("L2_POOL_2D")),
        "RESHAPE": _indexed("RESHAPE", "ReshapeOptions", (1, 256), (1, 256)),
        "PAD": _layer(pad),
        "PADV2": _layer(_padded),
        "MIRROR_PAD": _indexed("MIRROR_PAD", "MirrorPadOptions", (1, 10, 10, 4), _WIDTHS, mode=0),
        **{
            op: _indexed(op, "ReducerOptions", _REDUCED, (1, 2), keepDims=True)
            for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")
        },
        "TRANSPOSE": _indexed("TRANSPOSE", "TransposeOptions", _MOVED, (0, 3, 1, 2)),
        "STRIDED_SLICE": _indexed(
            "STRIDED_SLICE", "StridedSliceOptions", (1, 4, 8, 4), (0,) * 4, (1, 4, 8, 4), (1,) * 4
        ),
        "SLICE": _indexed("SLICE", "SliceOptions", (1, 4, 8, 4), (0,) * 4, (1, 4, 8, 4)),
        "RESIZE_NEAREST_NEIGHBOR": _indexed(
            "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", (1, 16, 16, 4), (16, 16)
        ),
        "RESIZE_BILINEAR": _indexed("RESIZE_BILINEAR", "ResizeBilinearOptions", (1, 16, 16, 4), (16, 16)),
        "SQUEEZE": _unary("SQUEEZE", "SqueezeOptions", (8, 8, 4), squeezeDims=[0]),
        "EXPAND_DIMS": _indexed("EXPAND_DIMS", "ExpandDimsOptions", (1, 1, 8, 8, 4), (0,)),
        "DEPTH_TO_SPACE": _unary("DEPTH_TO_SPACE", "DepthToSpaceOptions", (1, 16, 16, 1), blockSize=2),
        "SPACE_TO_DEPTH": _unary("SPACE_TO_DEPTH", "SpaceToDepthOptions", (1, 4, 4, 16), blockSize=2),
        "SPACE_TO_BATCH_ND": _indexed(
            "SPACE_TO_BATCH_ND", "SpaceToBatchNDOptions", (4, 4, 4, 4), (2, 2), np.zeros((2, 2), np.int32)
        ),
        "BATCH_TO_SPACE_ND": _batched,
        "FILL": _filled,
        "REVERSE_V2": _indexed("REVERSE_V2", "ReverseV2Options", SHAPE, (1,)),
        "GATHER": _indexed("GATHER", "GatherOptions", (1, 2, 8, 4), (0, 1), axis=1),
        "GATHER_ND": _indexed("GATHER_ND", "GatherNdOptions", (1, 8, 4), ((0, 1),)),
        "BROADCAST_TO": _indexed("BROADCAST_TO", "BroadcastToOptions", (2, 8, 8, 4), (2, 8, 8, 4)),
        "CUMSUM": _indexed("CUMSUM", "CumsumOptions", SHAPE, (1,)),
        "SPLIT": _split,
        "SPLIT_V": _split_unevenly,
        "UNPACK": lambda net: net.emit("UNPACK", [net.first], [(1, 8, 8)] * 4, "UnpackOptions", num=4, axis=3),
        "ARG_MAX": _argument("ARG_MAX", "ArgMaxOptions"),
        "ARG_MIN": _argument("ARG_MIN", "ArgMinOptions"),
        "QUANTIZE": _typed("QUANTIZE", "QuantizeOptions", "int8"),
        "DEQUANTIZE": _typed("DEQUANTIZE", "DequantizeOptions", "float32"),
        "CAST": _typed("CAST", "CastOptions", "float32"),
        "SHAPE": _typed("SHAPE", "ShapeOptions", "int32", (4,), outType=2),
        **{op: _compared(op) for op in ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"]},
        "SELECT_V2": _chosen,
        **{op: _binary(op, f"{camel(op)}Options") for op in ("LOGICAL_AND", "LOGICAL_OR")},
        "LOGICAL_NOT": _unary("LOGICAL_NOT", "LogicalNotOptions"),
    }
)


def operator(op: str, dtype: str) -> bytes:
    """Returns a model of one operator on tensors of `dtype`."""
    net = OneOperator(dtype)
    CASES[op](net)
    return net.packed()
