"""Every integer kernel of the table runs in LiteRT, with XNNPACK and without, and gives what its quantisers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgewright.core.target import Plan
from edgewright.formats.tflite.reader import parse
from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import infer_shapes
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.kernels import KERNELS
from edgewright.targets._tflite.options import Compiled, Options
from edgewright.testing._quantised_models import QuantisedGraph, run_as_written, run_tflite

Build = Callable[[str], QuantisedGraph]
IMAGE = (1, 6, 4, 4)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def finer(dtype: str) -> float:
    return 1.0 if dtype == "int8" else 1 / 256


def zero(dtype: str, value: int) -> int:
    return value if dtype == "int8" else 0


def one(
    op: str, out: tuple[float, int], shape: Sequence[int] = IMAGE, first: tuple[float, int] = (0.04, 2), **kw: Any
) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g = QuantisedGraph()
        data = g.quantised(g.input("x", shape), first[0] * finer(dtype), zero(dtype, first[1]), dtype)
        g.output(g.quantised(g.add(op, [data], **kw), out[0] * finer(dtype), zero(dtype, out[1]), dtype))
        return g

    return build


def same(op: str, shape: Sequence[int] = IMAGE, extra: Sequence[Any] = (), count: int = 1, **kw: Any) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g = QuantisedGraph()
        params = (0.04 * finer(dtype), zero(dtype, 2), dtype)
        data = g.quantised(g.input("x", shape), *params)
        made = g.add(op, [data, *("" if e is None else g.constant(e) for e in extra)], count, **kw)
        for value in [made] if count == 1 else made:
            g.output(g.quantised(value, *params))
        return g

    return build


def fixed(op: str, scale: float, at: int, short: float, **kw: Any) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g = QuantisedGraph()
        data = g.quantised(g.input("x", (2, 5, 7)), 0.04 * finer(dtype), zero(dtype, 2), dtype)
        g.output(g.quantised(g.add(op, [data], **kw), *((scale, at) if dtype == "int8" else (short, 0)), dtype))
        return g

    return build


def two(
    op: str,
    right: Sequence[int] = IMAGE,
    left: Sequence[int] = IMAGE,
    scales: Sequence[float] = (0.04, 0.03, 0.06),
    zeros: Sequence[int] = (2, -5, 4),
    constant: bool = False,
    real: bool = True,
    before: Sequence[np.ndarray] = (),
    **kw: Any,
) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g = QuantisedGraph()
        params = [(scale * finer(dtype), zero(dtype, at), dtype) for scale, at in zip(scales, zeros, strict=True)]
        other = np.random.default_rng(3).standard_normal(right).astype(np.float32)
        a = g.quantised(g.input("x", left), *params[0])
        b = g.quantised(g.constant(other) if constant else g.input("y", right), *params[1])
        made = g.add(op, [*(g.constant(e) for e in before), a, b], **kw)
        g.output(g.quantised(made, *params[2]) if real else made)
        return g

    return build


def weighed(
    op: str, data: Sequence[int], shape: Sequence[int], axis: int | None, bias: int = 0, out: float = 0.2, **kw: Any
) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g, rng = QuantisedGraph(), np.random.default_rng(5)
        scale = np.float32(0.04 * finer(dtype))
        x = g.quantised(g.input("x", data), float(scale), zero(dtype, 2), dtype)
        w, scales = g.weights(rng.standard_normal(shape).astype(np.float32), axis)
        numbers = rng.standard_normal(bias).astype(np.float32)
        inputs = [x, w]
        if bias:
            inputs.append(g.bias(numbers, scale * scales) if dtype == "int8" else g.constant(numbers))
        made = g.add(op, inputs, **kw)
        g.output(g.quantised(made, out * finer(dtype), zero(dtype, -3), dtype))
        return g

    return build


def scalar(op: str) -> Build:
    def build(dtype: str) -> QuantisedGraph:
        g = QuantisedGraph()
        data = g.quantised(g.input("x", IMAGE), 0.04 * finer(dtype), zero(dtype, 2), dtype)
        g.output(
            g.quantised(g.add(op, [data, g.constant(np.float32(1.7))]), 0.07 * finer(dtype), zero(dtype, 1), dtype)
        )
        return g

    return build


def largest(dtype: str) -> QuantisedGraph:
    g = QuantisedGraph()
    data = g.quantised(g.input("x", IMAGE), 0.04 * finer(dtype), zero(dtype, 2), dtype)
    g.output(g.add("ArgMax", [data], axis=1, keepdims=0))
    return g


EQUAL = {"scales": (0.04, 0.04, 0.04), "zeros": (2, 2, 2)}
MASK = np.random.default_rng(4).random(IMAGE) > 0.5
PADS = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
HALF = {"kernel_shape": [2, 2], "strides": [2, 2]}
CASES: Mapping[str, Build] = {
    "Conv": weighed("Conv", (1, 6, 8, 8), (4, 6, 3, 3), 0, 4, pads=[1, 1, 1, 1]),
    "Conv per tensor": weighed("Conv", (1, 6, 8, 8), (4, 6, 3, 3), None, 4),
    "Conv without bias": weighed("Conv", (1, 6, 8, 8), (4, 6, 3, 3), 0),
    "Conv depthwise": weighed("Conv", (1, 6, 8, 8), (6, 1, 3, 3), 0, 6, group=6, strides=[2, 2], pads=[1, 1, 1, 1]),
    "Conv grouped": weighed("Conv", (1, 6, 8, 8), (4, 3, 3, 3), 0, 4, group=2),
    "Conv of one axis": weighed("Conv", (1, 6, 8), (4, 6, 3), 0, 4, pads=[1, 1]),
    "Conv dilated": weighed("Conv", (1, 6, 9, 9), (4, 6, 3, 3), 0, 4, dilations=[2, 2]),
    "ConvTranspose": weighed("ConvTranspose", (1, 6, 5, 5), (6, 4, 2, 2), 1, 4, strides=[2, 2]),
    "ConvTranspose padded": weighed("ConvTranspose", (1, 6, 5, 5), (6, 4, 4, 4), 1, 4, strides=[2, 2], pads=[1] * 4),
    "Gemm": weighed("Gemm", (3, 8), (5, 8), 0, 5, transB=1),
    "Gemm untransposed": weighed("Gemm", (3, 8), (8, 5), 1, 5),
    "MatMul": weighed("MatMul", (1, 3, 8), (8, 5), 1),
    "MatMul of activations": two("MatMul", (1, 2, 8, 4), (1, 2, 3, 8), (0.04, 0.03, 0.1)),
    "Add": two("Add"),
    "Add broadcast": two("Add", (6, 1, 1)),
    "Add constant": two("Add", (6, 1, 1), constant=True),
    "Add scalar": scalar("Add"),
    "Sub": two("Sub"),
    "Mul": two("Mul"),
    "Mul broadcast": two("Mul", (1, 6, 1, 1)),
    "Mul scalar": scalar("Mul"),
    "PRelu": two("PRelu", (6, 1, 1), constant=True),
    "Max": two("Max", **EQUAL),
    "Min": two("Min", **EQUAL),
    "Max of different scales": two("Max"),
    "Concat": two("Concat", axis=1, **EQUAL),
    "Concat of different scales": two("Concat", axis=1, scales=(0.04, 0.03, 0.04), zeros=(2, -4, 2)),
    "Where": two("Where", before=[MASK], **EQUAL),
    "Less": two("Less", real=False),
    "Greater": two("Greater", real=False),
    "ArgMax": largest,
    "Sigmoid": fixed("Sigmoid", 1 / 256, -128, 1 / 32768),
    "Sigmoid of another scale": fixed("Sigmoid", 1 / 255, -128, 1 / 32767),
    "Tanh": fixed("Tanh", 1 / 128, 0, 1 / 32768),
    "Softmax": fixed("Softmax", 1 / 256, -128, 1 / 32768),
    "Softmax of another axis": fixed("Softmax", 1 / 256, -128, 1 / 32768, axis=1),
    "LogSoftmax": fixed("LogSoftmax", 16 / 256, 127, 1 / 2048),
    "LpNormalization": fixed("LpNormalization", 1 / 128, 0, 1 / 32768),
    "Relu": one("Relu", (0.05, -3)),
    "Relu of one scale": same("Relu"),
    "Clip to 6": same("Clip", extra=(np.float32(0), np.float32(6))),
    "Clip": same("Clip", extra=(np.float32(-1.5), np.float32(2.2))),
    "LeakyRelu": one("LeakyRelu", (0.05, -3), alpha=0.1),
    "HardSwish": one("HardSwish", (0.05, -3)),
    "Elu": one("Elu", (0.05, -3)),
    "Gelu": one("Gelu", (0.05, -3)),
    "Gelu by tanh": one("Gelu", (0.05, -3), approximate="tanh"),
    "Exp": one("Exp", (0.05, -3), first=(0.01, 2)),
    "Log": one("Log", (0.05, -3), first=(0.05, -128)),
    "Abs": one("Abs", (0.05, -3)),
    "MaxPool": same("MaxPool", **HALF),
    "MaxPool padded": same("MaxPool", **PADS),
    "MaxPool to another scale": one("MaxPool", (0.05, -3), **HALF),
    "GlobalMaxPool": same("GlobalMaxPool"),
    "AveragePool": same("AveragePool", **HALF),
    "AveragePool padded": same("AveragePool", **PADS),
    "AveragePool to another scale": one("AveragePool", (0.05, -3), **HALF),
    "GlobalAveragePool": one("GlobalAveragePool", (0.02, -3)),
    "ReduceMean": same("ReduceMean", extra=(ints(2, 3),), keepdims=0),
    "ReduceSum": same("ReduceSum", extra=(ints(2, 3),), keepdims=0),
    "ReduceMax": same("ReduceMax", extra=(ints(2, 3),), keepdims=0),
    "ReduceMin": same("ReduceMin", extra=(ints(2, 3),), keepdims=0),
    "Reshape": same("Reshape", extra=(ints(1, 24, 4),)),
    "Flatten": same("Flatten"),
    "Squeeze": same("Squeeze", (1, 6, 1, 4), extra=(ints(2),)),
    "Unsqueeze": same("Unsqueeze", (1, 6, 4), extra=(ints(2),)),
    "Transpose": same("Transpose", perm=[0, 2, 1, 3]),
    "Slice": same("Slice", extra=(ints(1, 0), ints(3, 4), ints(1, 2), ints(1, 2))),
    "Split": same("Split", extra=(ints(2, 4),), count=2, axis=1),
    "Pad": same("Pad", extra=(ints(0, 0, 1, 1, 0, 0, 2, 1),)),
    "Pad mirrored": same("Pad", extra=(ints(0, 0, 1, 1, 0, 0, 1, 1),), mode="reflect"),
    "Pad with a number": same("Pad", extra=(ints(0, 0, 1, 1, 0, 0, 2, 1), np.float32(0.4))),
    "Gather": same("Gather", extra=(ints(1, 3),), axis=1),
    "GatherND": same("GatherND", (4, 6), extra=(ints(1, 3).reshape(2, 1),)),
    "Tile": same("Tile", extra=(ints(1, 2, 1, 1),)),
    "Expand": same("Expand", (1, 6, 1, 1), extra=(ints(*IMAGE),)),
    "DepthToSpace": same("DepthToSpace", (1, 8, 4, 4), blocksize=2),
    "SpaceToDepth": same("SpaceToDepth", blocksize=2),
    "Resize nearest": same(
        "Resize",
        extra=(None, np.array([1, 1, 2, 2], np.float32)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "Resize linear": same("Resize", extra=(None, np.array([1, 1, 2, 2], np.float32)), mode="linear"),
}
NOT_INT16 = (
    "PRelu",
    "LogSoftmax",
    "LpNormalization",
    "HardSwish",
    "Elu",
    "Log",
    "DepthToSpace",
    "SpaceToDepth",
    "ArgMax",
)
CONVERTS = {"QUANTIZE", "DEQUANTIZE"}


def compiled(graph: QuantisedGraph, **options: Any) -> Compiled:
    model = ir.serde.deserialize_model(graph.proto())
    name_nodes(model.graph)
    return compile_model(infer_shapes(model), Plan("test"), Options(**{"channels_last": False, **options}))


def float_operators(made: Compiled) -> list[str]:
    file = parse(made.content)
    return [
        op.op
        for op in file.operators
        if op.op not in CONVERTS
        and any(n >= 0 and file.tensors[n].dtype == "float32" for n in (*op.inputs[:1], *op.outputs))
    ]


@pytest.mark.sample(7)
@pytest.mark.parametrize("dtype", ["int8", pytest.param("int16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_kernels_give_what_the_quantisers_say(name: str, dtype: str) -> None:
    if dtype == "int16" and name.split(maxsplit=1)[0] in NOT_INT16:
        return
    graph = CASES[name](dtype)
    made = compiled(graph)
    assert not float_operators(made), made.notes
    feeds = graph.feeds(1, positive=name == "Log")
    wanted = run_as_written(graph.proto(), feeds)
    for delegate in (False, True):
        found = run_tflite(made.content, feeds, delegate=delegate)
        for output, expected in wanted.items():
            steps = np.abs(found[output].astype(np.float64) - expected) / graph.steps.get(output, 1.0)
            assert steps.max() <= (1.01 if dtype == "int8" else 2.01)


@pytest.mark.parametrize("name", NOT_INT16)
def test_what_has_no_16_bit_kernel_stays_float_and_is_named(name: str) -> None:
    made = compiled(CASES[name]("int16"))
    assert float_operators(made)
    assert any("int16" in note for note in made.notes.values())


def test_every_kernel_of_the_table_is_proven() -> None:
    """FullyConnected and BatchMatMul are what MatMul becomes; the others are variants of one rule."""
    proven = {name.split()[0] for name in CASES}
    assert set(KERNELS) - proven <= {
        "FullyConnected",
        "BatchMatMul",
        "Identity",
        "LessOrEqual",
        "GreaterOrEqual",
        "Equal",
        "ArgMin",
    }
