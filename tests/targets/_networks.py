"""Networks in the shape of MobileNetV2 and ResNet-50 at 224 x 224, random weights, batch norms folded; ONNX in code."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from edgewright.testing._target_models import Builder

CLASSES = 1000


class Net(Builder):
    """Adds layers one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.limits = [self.constant("low", np.float32(0)), self.constant("high", np.float32(6))]

    def conv(self, x: str, before: int, after: int, size: int = 1, stride: int = 1, *, group: int = 1) -> str:
        self.count += 1
        name, fan_in = f"c{self.count}", before // group * size * size
        weights = self.weights(f"{name}_w", after, before // group, size, size, scale=(2 / fan_in) ** 0.5)
        bias = self.weights(f"{name}_b", after, scale=0.01)
        pads = [size // 2] * 4
        return self.add("Conv", [x, weights, bias], name, pads=pads, strides=[stride] * 2, group=group)

    def relu(self, x: str) -> str:
        return self.add("Relu", [x], f"{x}_r")

    def relu6(self, x: str) -> str:
        return self.add("Clip", [x, *self.limits], f"{x}_r")

    def classify(self, x: str, channels: int) -> onnx.ModelProto:
        self.add("GlobalAveragePool", [x], "pooled")
        self.add("Flatten", ["pooled"], "flat")
        weights = self.weights("fc_w", CLASSES, channels, scale=channels**-0.5)
        self.add("Gemm", ["flat", weights, self.weights("fc_b", CLASSES, scale=0.01)], "y", transB=1)
        shapes = ("x", TensorProto.FLOAT, (1, 3, 224, 224)), ("y", TensorProto.FLOAT, (1, CLASSES))
        return self.model([shapes[0]], [shapes[1]], {})


def mobilenet_v2() -> onnx.ModelProto:
    """Sandler et al. 2018, table 2."""
    net = Net()
    x, before = net.relu6(net.conv("x", 3, 32, 3, 2)), 32
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, after, repeats, first in stages:
        for index in range(repeats):
            stride, wide = first if index == 0 else 1, before * expansion
            inner = x if expansion == 1 else net.relu6(net.conv(x, before, wide))
            inner = net.relu6(net.conv(inner, wide, wide, 3, stride, group=wide))
            inner = net.conv(inner, wide, after)
            x = net.add("Add", [x, inner], f"{inner}_sum") if stride == 1 and before == after else inner
            before = after
    return net.classify(net.relu6(net.conv(x, before, 1280)), 1280)


def resnet_50() -> onnx.ModelProto:
    """He et al. 2015, table 1, 50 layers."""
    net = Net()
    stem = net.relu(net.conv("x", 3, 64, 7, 2))
    x, before = net.add("MaxPool", [stem], "stem", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for width, repeats, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for index in range(repeats):
            stride, after = first if index == 0 else 1, 4 * width
            inner = net.relu(net.conv(x, before, width))
            inner = net.relu(net.conv(inner, width, width, 3, stride))
            inner = net.conv(inner, width, after)
            short = x if before == after and stride == 1 else net.conv(x, before, after, 1, stride)
            x, before = net.relu(net.add("Add", [inner, short], f"{inner}_sum")), after
    return net.classify(x, before)
