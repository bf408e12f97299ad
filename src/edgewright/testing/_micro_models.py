"""Quantised networks built in code, written straight as TensorFlow Lite files, to measure kernels and arenas with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets._tflite.file import Quantisation, TfliteFile

ACTIVATION = Quantisation((0.1,), (3,))
SOFTMAX = Quantisation((1 / 256,), (-128,))
SAME, VALID = 0, 1


class Int8Net:
    """A network of int8 operators, one after the other; branches are taken by keeping `last`.

    Args:
        shape: Of the input, batch first.
        seed: Of the weights.
        dtype: Of the activations: `int8` or `int16` with int8 weights, or `float32`.
    """

    def __init__(self, shape: Sequence[int], seed: int = 0, dtype: str = "int8") -> None:
        self.file = TfliteFile()
        self.dtype = dtype
        self._rng = np.random.default_rng(seed)
        self.first = self.last = self.activation(shape, "input")

    def activation(self, shape: Sequence[int], name: str, quantisation: Quantisation = ACTIVATION) -> int:
        """Adds a tensor that is computed."""
        kept = {"int8": quantisation, "int16": Quantisation((0.001,), (0,))}.get(self.dtype)
        return self.file.tensor(name, self.dtype, shape, quantisation=kept)

    def shape(self, tensor: int | None = None) -> tuple[int, ...]:
        """Returns the shape of a tensor, the last one by default."""
        return self.file.tensors[self.last if tensor is None else tensor].shape

    def weights(self, shape: Sequence[int], axis: int | None) -> int:
        """Adds int8 weights, one scale per index of `axis` or one for all."""
        if self.dtype == "float32":
            return self.constant(self._rng.normal(size=shape).astype(np.float32))
        count = 1 if axis is None else shape[axis]
        data = self._rng.integers(-127, 128, tuple(shape), np.int8)
        quantisation = Quantisation((0.01,) * count, (0,) * count, axis)
        return self.file.tensor("weights", "int8", shape, data=data, quantisation=quantisation)

    def bias(self, channels: int, per_channel: bool = True) -> int:
        """Adds the bias of a weighted operator."""
        if self.dtype == "float32":
            return self.constant(np.zeros(channels, np.float32))
        count = channels if per_channel else 1
        kind = np.int32 if self.dtype == "int8" else np.int64
        quantisation = Quantisation((0.001,) * count, (0,) * count, 0 if per_channel else None)
        return self.file.tensor(
            "bias", np.dtype(kind).name, (channels,), data=np.zeros(channels, kind), quantisation=quantisation
        )

    def constant(self, data: NDArray[Any], name: str = "constant", quantisation: Quantisation | None = None) -> int:
        """Adds a constant that is not quantised."""
        return self.file.tensor(name, data.dtype.name, data.shape, data=data, quantisation=quantisation)

    def op(self, op: str, inputs: Sequence[int], shape: Sequence[int], options: str = "", **fields: Any) -> int:
        """Adds an operator with one computed output."""
        quantisation = SOFTMAX if op in ("SOFTMAX", "LOGISTIC") else ACTIVATION
        if op == "TANH":
            quantisation = Quantisation((1 / 128,), (0,))
        self.last = self.activation(shape, op.lower(), quantisation)
        self.file.operator(op, inputs, [self.last], options, **fields)
        return self.last

    def conv(self, channels: int, kernel: tuple[int, int] = (3, 3), stride: int = 1, padding: int = SAME) -> int:
        """Adds a convolution with a bias, scales per output channel and a ReLU."""
        shape = self.shape()
        filters, bias = self.weights((channels, *kernel, shape[3]), 0), self.bias(channels)
        out = (shape[0], *self._windows(shape, kernel, stride, padding), channels)
        fields = {"padding": padding, "strideW": stride, "strideH": stride, "fusedActivationFunction": 1}
        inputs = [self.last, filters, bias]
        return self.op("CONV_2D", inputs, out, "Conv2DOptions", **fields, dilationWFactor=1, dilationHFactor=1)

    def depthwise(self, kernel: tuple[int, int] = (3, 3), stride: int = 1, padding: int = SAME) -> int:
        """Adds a depthwise convolution."""
        shape = self.shape()
        filters, bias = self.weights((1, *kernel, shape[3]), 3), self.bias(shape[3])
        out = (shape[0], *self._windows(shape, kernel, stride, padding), shape[3])
        fields = {"padding": padding, "strideW": stride, "strideH": stride, "depthMultiplier": 1}
        inputs = [self.last, filters, bias]
        more = {"dilationWFactor": 1, "dilationHFactor": 1}
        return self.op("DEPTHWISE_CONV_2D", inputs, out, "DepthwiseConv2DOptions", **fields, **more)

    def dense(self, units: int, *, per_channel: bool = False) -> int:
        """Adds a fully connected operator on the last axis."""
        shape = self.shape()
        filters = self.weights((units, shape[-1]), 0 if per_channel else None)
        inputs = [self.last, filters, self.bias(units, per_channel)]
        return self.op("FULLY_CONNECTED", inputs, (shape[0], units), "FullyConnectedOptions")

    def pool(self, op: str = "AVERAGE_POOL_2D", window: tuple[int, int] = (2, 2), stride: int = 2) -> int:
        """Adds a pool without padding."""
        shape = self.shape()
        out = (shape[0], *self._windows(shape, window, stride, VALID), shape[3])
        fields = {"filterHeight": window[0], "filterWidth": window[1], "strideW": stride, "strideH": stride}
        return self.op(op, [self.last], out, "Pool2DOptions", padding=VALID, **fields)

    def flatten(self) -> int:
        """Adds a Reshape to [batch, rest]."""
        shape = self.shape()
        out = (shape[0], math.prod(shape[1:]))
        new = self.constant(np.array(out, np.int32), "shape")
        return self.op("RESHAPE", [self.last, new], out, "ReshapeOptions", newShape=list(out))

    def softmax(self) -> int:
        """Adds a Softmax."""
        return self.op("SOFTMAX", [self.last], self.shape(), "SoftmaxOptions", beta=1.0)

    def add(self, other: int) -> int:
        """Adds the sum of the last tensor and `other`."""
        return self.op("ADD", [self.last, other], self.shape(), "AddOptions")

    def finish(self) -> bytes:
        """Returns the file, with the first tensor as its input and the last one as its output."""
        return self.file.finish({"input": self.first}, {"output": self.last})

    @staticmethod
    def _windows(shape: Sequence[int], kernel: Sequence[int], stride: int, padding: int) -> tuple[int, int]:
        sizes = [size if padding == SAME else size - k + 1 for size, k in zip(shape[1:3], kernel, strict=True)]
        return -(-sizes[0] // stride), -(-sizes[1] // stride)


def ds_cnn(blocks: int = 4, channels: int = 64) -> bytes:
    """Returns the shape of MLPerf Tiny's keyword spotting network: 49 x 10 features, 12 classes."""
    net = Int8Net((1, 49, 10, 1))
    net.conv(channels, (10, 4), 2)
    for _ in range(blocks):
        net.depthwise()
        net.conv(channels, (1, 1))
    net.pool(window=(25, 5))
    net.flatten()
    net.dense(12)
    net.softmax()
    return net.finish()


def mobilenet(size: int = 96, width: float = 0.25, classes: int = 2) -> bytes:
    """Returns the shape of MLPerf Tiny's visual wake words network, MobileNetV1."""
    net = Int8Net((1, size, size, 3))
    net.conv(int(32 * width), stride=2)
    for channels, stride in (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *((512, 1),) * 5,
        (1024, 2),
        (1024, 1),
    ):
        net.depthwise(stride=stride)
        net.conv(int(channels * width), (1, 1))
    net.pool(window=net.shape()[1:3], stride=1)  # type: ignore[arg-type]
    net.flatten()
    net.dense(classes)
    net.softmax()
    return net.finish()


def autoencoder(features: int = 640) -> bytes:
    """Returns the shape of MLPerf Tiny's anomaly detection network: fully connected only."""
    net = Int8Net((1, features))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128, features):
        net.dense(units)
    return net.finish()


def resnet8(size: int = 32, classes: int = 10) -> bytes:
    """Returns the shape of MLPerf Tiny's image classification network."""
    net = Int8Net((1, size, size, 3))
    net.conv(16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        before = net.last
        net.conv(channels, stride=stride)
        main = net.conv(channels)
        if stride == 1:
            net.add(before)
        else:
            net.last = before
            net.conv(channels, (1, 1), stride)
            net.add(main)
    net.pool(window=net.shape()[1:3], stride=1)  # type: ignore[arg-type]
    net.flatten()
    net.dense(classes)
    net.softmax()
    return net.finish()


def concatenate(net: Int8Net, other: int) -> int:
    """Adds a join of the last tensor and `other` along channels."""
    shape = net.shape()
    if net.shape(other)[:3] != shape[:3]:
        other = net.last
    out = (*shape[:3], shape[3] + net.shape(other)[3])
    return net.op("CONCATENATION", [net.last, other], out, "ConcatenationOptions", axis=3)


def pad(net: Int8Net) -> int:
    """Adds a border of one row and column."""
    shape = net.shape()
    widths = net.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32), "widths")
    return net.op("PAD", [net.last, widths], (shape[0], shape[1] + 2, shape[2] + 2, shape[3]), "PadOptions")


def reduce(net: Int8Net, op: str) -> int:
    """Adds a reduction over rows and columns."""
    shape = net.shape()
    axes = net.constant(np.array([1, 2], np.int32), "axes")
    return net.op(op, [net.last, axes], (shape[0], 1, 1, shape[3]), "ReducerOptions", keepDims=True)
