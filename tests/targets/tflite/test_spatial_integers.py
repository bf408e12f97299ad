"""Spatial operators between quantisers: computed in integers, at most a step from what ONNX Runtime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.formats.tflite.reader import parse

STEP, ZERO = 0.05, 7
NONE = np.zeros(0, np.float32)


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


class Builder:
    """A graph of one operator in int8: QuantizeLinear and DequantizeLinear around every activation and weight."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.stored: list[Any] = []

    def constant(self, array: Any, name: str) -> str:
        self.stored.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def quantised(self, name: str) -> str:
        names = [self.constant(np.float32(STEP), f"{name}_scale"), self.constant(np.int8(ZERO), f"{name}_zero")]
        self.nodes.append(helper.make_node("QuantizeLinear", [name, *names], [f"{name}_q"], f"{name}/q"))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *names], [f"{name}_dq"], f"{name}/dq"))
        return f"{name}_dq"

    def weights(self, array: Any, name: str, axis: int) -> str:
        lanes = tuple(i for i in range(array.ndim) if i != axis)
        scale = (np.abs(array).max(lanes) / 127).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(array.ndim)]
        integers = np.rint(array / scale.reshape(shape)).astype(np.int8)
        names = [self.constant(integers, name), self.constant(scale, f"{name}_scale")]
        names.append(self.constant(np.zeros(scale.size, np.int8), f"{name}_zero"))
        self.nodes.append(helper.make_node("DequantizeLinear", names, [f"{name}_dq"], f"{name}/dq", axis=axis))
        return f"{name}_dq"

    def model(self, shape: tuple[int, ...], output: str) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "integers", [x], [y], self.stored)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=10)


def judged(judge: Any, op: str, shape: tuple[int, ...], *constants: Any, weights: Any = None, **attributes: Any) -> Any:
    build = Builder()
    inputs = [build.quantised("x")]
    if weights is not None:
        inputs.append(build.weights(weights, "w", 1 if op == "ConvTranspose" else 0))
    inputs += [build.constant(array, f"c{i}") for i, array in enumerate(constants)]
    build.nodes.append(helper.make_node(op, inputs, ["y"], op.lower(), **attributes))
    return judge.model(build.model(shape, build.quantised("y")), x=noise(*shape))


CASES: dict[str, tuple[Any, ...]] = {
    "sequence": ("Conv", (1, 4, 11), {"weights": noise(6, 4, 3), "pads": [2, 0]}),
    "image": ("Conv", (1, 4, 9, 8), {"weights": noise(6, 4, 3, 3), "pads": [1] * 4, "strides": [2, 2]}),
    "groups": ("Conv", (1, 4, 9, 8), {"weights": noise(6, 2, 3, 3), "group": 2}),
    "depthwise": ("Conv", (1, 4, 9, 8), {"weights": noise(8, 1, 3, 3), "group": 4, "dilations": [2, 1]}),
    "transposed": ("ConvTranspose", (1, 4, 6, 7), {"weights": noise(4, 3, 4, 4), "strides": [2, 2], "pads": [1] * 4}),
    "cropped": ("ConvTranspose", (1, 4, 6, 7), {"weights": noise(4, 3, 3, 3), "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    "transposed depthwise": (
        "ConvTranspose",
        (1, 6, 5, 7),
        {"weights": noise(6, 1, 3, 3), "group": 6, "strides": [2, 2]},
    ),
    "maximum": ("MaxPool", (1, 4, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "maximum apart": ("MaxPool", (1, 4, 8, 9), {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    "average": ("AveragePool", (1, 4, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "average apart": ("AveragePool", (1, 4, 8, 9), {"kernel_shape": [3, 3], "dilations": [2, 2]}),
    "global average": ("GlobalAveragePool", (1, 4, 8, 9), {}),
    "global maximum": ("GlobalMaxPool", (1, 4, 8, 9), {}),
    "blocks": ("DepthToSpace", (1, 8, 3, 4), {"blocksize": 2, "mode": "CRD"}),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_compute_in_integers(judge: Any, name: str) -> None:
    op, shape, attributes = CASES[name]
    check(judged(judge, op, shape, **attributes))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factor", [2.0, 1.5])
def test_resizes_compute_in_integers(judge: Any, mode: str, factor: float) -> None:
    factors = np.asarray([1, 1, factor, factor], np.float32)
    check(judged(judge, "Resize", (1, 3, 6, 4), NONE, factors, mode=mode))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_pads_compute_in_integers(judge: Any, mode: str) -> None:
    check(judged(judge, "Pad", (1, 3, 6, 4), np.asarray([0, 0, 1, 2, 0, 0, 0, 1]), mode=mode))


def check(found: Any) -> None:
    assert found.furthest <= STEP * 1.001
    file = parse(found.compiled.content)
    inner = [file.tensors[n] for operator in file.operators for n in operator.outputs if operator.op != "DEQUANTIZE"]
    assert inner
    assert {tensor.dtype for tensor in inner} == {"int8"}
