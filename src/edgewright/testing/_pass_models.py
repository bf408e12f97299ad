"""Small ONNX models built in code for the conformance suite of passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Case:
    """A model and the shape of its one input, `x`."""

    name: str
    build: Callable[[], onnx.ModelProto]
    shape: tuple[int, ...]

    def feeds(self, count: int = 4) -> list[Feed]:
        """Returns reproducible inputs, roughly standard normal."""
        rng = np.random.default_rng(3)
        return [{"x": rng.standard_normal(self.shape).astype(np.float32)} for _ in range(count)]

    def __str__(self) -> str:
        return self.name


def convolutions() -> onnx.ModelProto:
    """Conv, batch norm, ReLU, depthwise Conv, SiLU, max pool, a residual sum, global pooling and Gemm; opset 11."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": _normal(rng, 8, 3, 3, 3),
        "b0": _normal(rng, 8),
        "gamma": np.abs(_normal(rng, 8)) + 0.5,
        "beta": _normal(rng, 8),
        "mean": _normal(rng, 8),
        "variance": np.abs(_normal(rng, 8)) + 0.5,
        "w1": _normal(rng, 8, 1, 3, 3),
        "w2": _normal(rng, 8, 8, 1, 1),
        "w3": _normal(rng, 5, 8),
        "b3": _normal(rng, 5),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c0", "gamma", "beta", "mean", "variance"], ["n0"]),
        helper.make_node("Relu", ["n0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"], group=8, pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c1"], ["s1"]),
        helper.make_node("Mul", ["c1", "s1"], ["m1"]),
        helper.make_node("MaxPool", ["m1"], ["p1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"]),
        helper.make_node("Add", ["c2", "r0"], ["a2"]),
        helper.make_node("GlobalAveragePool", ["a2"], ["g2"]),
        helper.make_node("Flatten", ["g2"], ["f2"]),
        helper.make_node("Gemm", ["f2", "w3", "b3"], ["y"], transB=1),
    ]
    return _model(nodes, weights, [1, 3, 12, 12], [1, 5], opset=11)


def perceptron() -> onnx.ModelProto:
    """MatMul, Add, Tanh, MatMul over a dynamic batch, and Softmax; opset 17."""
    rng = np.random.default_rng(1)
    weights = {"w0": _normal(rng, 16, 32), "b0": _normal(rng, 32), "w1": _normal(rng, 32, 6)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h0"]),
        helper.make_node("Add", ["h0", "b0"], ["h1"]),
        helper.make_node("Tanh", ["h1"], ["h2"]),
        helper.make_node("MatMul", ["h2", "w1"], ["h3"]),
        helper.make_node("Softmax", ["h3"], ["y"]),
    ]
    return _model(nodes, weights, ["batch", 16], ["batch", 6], opset=17)


def quantised() -> onnx.ModelProto:
    """A Conv that already has quantisers, as training with them leaves it; opset 17."""
    rng = np.random.default_rng(2)
    weights = {
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "w_quantised": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(4, 0.01, np.float32),
        "w_zero": np.zeros(4, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_quantised"]),
        helper.make_node("DequantizeLinear", ["x_quantised", "scale", "zero"], ["x_back"]),
        helper.make_node("DequantizeLinear", ["w_quantised", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["x_back", "w"], ["y"]),
    ]
    return _model(nodes, weights, [1, 3, 8, 8], [1, 4, 6, 6], opset=17)


def stored() -> onnx.ModelProto:
    """Float arithmetic on weights that are stored as integers, one per channel and one per tensor; opset 17."""
    rng = np.random.default_rng(3)
    weights = {
        "w_quantised": rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(4, 0.004, np.float32),
        "w_zero": np.zeros(4, np.int8),
        "v_quantised": rng.integers(0, 256, (4, 4, 1, 1)).astype(np.uint8),
        "v_scale": np.float32(0.004),
        "v_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w_quantised", "w_scale", "w_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("DequantizeLinear", ["v_quantised", "v_scale", "v_zero"], ["v"]),
        helper.make_node("Conv", ["r", "v"], ["y"]),
    ]
    return _model(nodes, weights, [1, 3, 8, 8], [1, 4, 6, 6], opset=17)


CASES = (
    Case("convolutions", convolutions, (1, 3, 12, 12)),
    Case("perceptron", perceptron, (1, 16)),
    Case("quantised", quantised, (1, 3, 8, 8)),
    Case("stored weights", stored, (1, 3, 8, 8)),
)


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return np.asarray(rng.standard_normal(shape) * 0.4, np.float32)


def _model(
    nodes: list[onnx.NodeProto], weights: Mapping[str, Any], shape: list[Any], result: list[Any], opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "conformance",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
