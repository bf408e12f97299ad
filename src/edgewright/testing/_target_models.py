"""Small ONNX models built in code, one per thing that a target must get right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET = 19
IR_VERSION = 9
Value = tuple[str, int, Sequence[int | str]]


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what its answers may differ by.

    Attributes:
        name: Shown in test reports.
        build: Makes the model.
        tolerance: Largest absolute difference from the reference evaluator.
        free_axis: Name of a free axis beside the batch; a target whose files have fixed sizes may refuse the model,
            naming that axis.
        integers: Type of the numbers it computes indices in; a target whose processor has no kernels for it may refuse
            the model, naming that type.
        zero_points: Word for how its zero points would have to be; a target without kernels for others may refuse the
            model, saying that word.
    """

    name: str
    build: Callable[[], onnx.ModelProto]
    tolerance: float = 1e-4
    free_axis: str = ""
    integers: str = ""
    zero_points: str = ""

    def __str__(self) -> str:
        return self.name


class Builder:
    """Collects nodes and initialisers; weights come from one seeded generator."""

    def __init__(self, *, named: bool = True, symmetric: bool = False) -> None:
        self._symmetric = symmetric
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._named = named
        self._rng = np.random.default_rng(7)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Adds a node called after its output and returns the output."""
        name = f"{output}_node" if self._named else None
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def constant(self, name: str, value: ArrayLike) -> str:
        """Adds an initialiser and returns its name."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, name: str, *shape: int, scale: float = 0.3) -> str:
        """Adds normally distributed float32 weights."""
        return self.constant(name, (self._rng.standard_normal(shape) * scale).astype(np.float32))

    def quantizer(self, value: str, scale: float, zero: int) -> str:
        """Adds QuantizeLinear and DequantizeLinear (per tensor) after `value`: uint8, or int8 without a zero point."""
        scale_name = self.constant(f"{value}_scale", np.float32(scale))
        zero_name = self.constant(f"{value}_zero", np.int8(0) if self._symmetric else np.uint8(zero))
        self.add("QuantizeLinear", [value, scale_name, zero_name], f"{value}_q")
        return self.add("DequantizeLinear", [f"{value}_q", scale_name, zero_name], f"{value}_dq")

    def quantized_weights(self, name: str, *shape: int) -> str:
        """Adds int8 weights with DequantizeLinear per output channel; 7 bits, so that no processor saturates."""
        levels = self._rng.integers(-63, 64, shape).astype(np.int8)
        scales = (0.002 + 0.004 * self._rng.random(shape[0])).astype(np.float32)
        parts = [
            self.constant(f"{name}_levels", levels),
            self.constant(f"{name}_scale", scales),
            self.constant(f"{name}_zero", np.zeros(shape[0], np.int8)),
        ]
        return self.add("DequantizeLinear", parts, name, axis=0)

    def model(self, inputs: Sequence[Value], outputs: Sequence[Value], domains: Mapping[str, int]) -> onnx.ModelProto:
        """Returns the model; `domains` are those besides ONNX's own."""
        takes, gives = ([helper.make_tensor_value_info(*value) for value in each] for each in (inputs, outputs))
        graph = helper.make_graph(self.nodes, "case", takes, gives, self.initializers)
        opsets = [helper.make_opsetid(domain, version) for domain, version in {"": OPSET, **domains}.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _float(name: str, *shape: int | str) -> Value:
    return (name, TensorProto.FLOAT, shape)


def conv_bn_relu() -> onnx.ModelProto:
    """A convolution whose batch norm and activation any optimiser folds; nodes without names."""
    make = Builder(named=False)
    make.add("Conv", ["x", make.weights("w", 8, 3, 3, 3), make.weights("b", 8)], "c", pads=[1, 1, 1, 1])
    statistics = [make.constant(f"bn{i}", np.linspace(0.5, 1.5, 8, dtype=np.float32)) for i in range(4)]
    make.add("BatchNormalization", ["c", *statistics], "n")
    make.add("Relu", ["n"], "y")
    return make.model([_float("x", 1, 3, 8, 8)], [_float("y", 1, 8, 8, 8)], {})


def depthwise() -> onnx.ModelProto:
    """A depthwise convolution, clipped as in MobileNet, and a pointwise one; the batch is dynamic."""
    make = Builder()
    make.add("Conv", ["x", make.weights("w", 8, 1, 3, 3)], "d", group=8, strides=[2, 2], pads=[1, 1, 1, 1])
    bounds = [make.constant("low", np.float32(0)), make.constant("high", np.float32(6))]
    make.add("Clip", ["d", *bounds], "r")
    make.add("Conv", ["r", make.weights("p", 4, 8, 1, 1)], "y")
    return make.model([_float("x", "batch", 8, 8, 8)], [_float("y", "batch", 4, 4, 4)], {})


def perceptron() -> onnx.ModelProto:
    """Gemm, then MatMul with a separate bias, then Softmax."""
    make = Builder()
    make.add("Gemm", ["x", make.weights("w1", 16, 8), make.weights("b1", 16)], "h", transB=1)
    make.add("Relu", ["h"], "r")
    make.add("MatMul", ["r", make.weights("w2", 16, 5)], "m")
    make.add("Add", ["m", make.weights("b2", 5)], "a")
    make.add("Softmax", ["a"], "y", axis=-1)
    return make.model([_float("x", "batch", 8)], [_float("y", "batch", 5)], {})


def residual() -> onnx.ModelProto:
    """A skip connection, pooled and flattened; two outputs, one of them from the middle of the graph."""
    make = Builder()
    make.add("Conv", ["x", make.weights("w1", 4, 4, 3, 3)], "c", pads=[1, 1, 1, 1])
    make.add("Relu", ["c"], "r")
    make.add("Conv", ["r", make.weights("w2", 4, 4, 3, 3)], "d", pads=[1, 1, 1, 1])
    make.add("Add", ["x", "d"], "sum")
    make.add("GlobalAveragePool", ["sum"], "g")
    make.add("Flatten", ["g"], "y")
    return make.model([_float("x", 1, 4, 8, 8)], [_float("y", 1, 4), _float("r", 1, 4, 8, 8)], {})


def several_inputs() -> onnx.ModelProto:
    """Two inputs that share their batch axis, and whose order is not alphabetic."""
    make = Builder()
    make.add("MatMul", ["query", make.weights("w", 6, 6)], "m")
    make.add("Mul", ["m", "gate"], "p")
    make.add("Concat", ["p", "query"], "y", axis=1)
    return make.model([_float("query", "batch", 6), _float("gate", "batch", 6)], [_float("y", "batch", 12)], {})


def embedding() -> onnx.ModelProto:
    """int64 tokens through a table, averaged over a dynamic sequence."""
    return _embedding("length")


def short_embedding() -> onnx.ModelProto:
    """The same, for sequences of five tokens."""
    return _embedding(5)


def _embedding(length: int | str) -> onnx.ModelProto:
    make = Builder()
    make.add("Gather", [make.weights("table", 20, 6), "tokens"], "e", axis=0)
    make.add("ReduceMean", ["e", make.constant("axes", np.array([1], np.int64))], "mean", keepdims=0)
    make.add("MatMul", ["mean", make.weights("w", 6, 3)], "y")
    tokens = ("tokens", TensorProto.INT64, ("batch", length))
    return make.model([tokens], [_float("y", "batch", 3)], {})


def quantized_conv(*, symmetric: bool = False) -> onnx.ModelProto:
    """QuantizeLinear/DequantizeLinear around everything: every target with integer kernels runs it in int8."""
    return _quantized(between=True, symmetric=symmetric)


def one_sided_conv(*, symmetric: bool = False) -> onnx.ModelProto:
    """The second convolution has quantised weights and a float input: it runs in float, which nobody planned."""
    return _quantized(between=False, symmetric=symmetric)


def _quantized(*, between: bool, symmetric: bool) -> onnx.ModelProto:
    make = Builder(symmetric=symmetric)
    x = make.quantizer("x", 0.03, 128)
    make.add("Conv", [x, make.quantized_weights("w1", 8, 4, 3, 3)], "c1", pads=[1, 1, 1, 1])
    make.add("Relu", ["c1"], "r1")
    middle = make.quantizer("r1", 0.02, 0) if between else "r1"
    make.add("Conv", [middle, make.quantized_weights("w2", 8, 8, 3, 3)], "c2", pads=[1, 1, 1, 1])
    make.add("Identity", [make.quantizer("c2", 0.04, 128)], "y")
    return make.model([_float("x", 1, 4, 8, 8)], [_float("y", 1, 8, 8, 8)], {})


def unknown_operator() -> onnx.ModelProto:
    """An operator that no runtime knows."""
    make = Builder()
    make.add("Relu", ["x"], "r")
    make.add("Frobnicate", ["r"], "y", domain="nowhere.example")
    return make.model([_float("x", 1, 4)], [_float("y", 1, 4)], {"nowhere.example": 1})


CASES = (
    Case("conv-bn-relu", conv_bn_relu),
    Case("depthwise", depthwise),
    Case("perceptron", perceptron),
    Case("residual", residual),
    Case("several-inputs", several_inputs),
    Case("embedding", embedding, free_axis="length", integers="int64"),
    Case("short-embedding", short_embedding, integers="int64"),
    Case("quantized-conv", quantized_conv, tolerance=0.0401, zero_points="symmetric"),
)
