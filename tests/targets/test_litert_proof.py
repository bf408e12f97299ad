"""What LiteRT's delegate takes of a file, read off its execution plan; held against the delegate's own parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert.interpreter")

from ai_edge_litert.interpreter import Interpreter

from edgewright.formats.tflite.reader import TfliteGraph, read_tflite
from edgewright.targets._litert_proof import delegated, precision_of
from edgewright.targets._tflite.file import Quantisation, TfliteFile

ACTIVATION, RESULT = Quantisation((0.05,), (3,)), Quantisation((0.04,), (-5,))
POOL = {"padding": 0, "strideW": 1, "strideH": 1, "filterWidth": 2, "filterHeight": 2}
RNG = np.random.default_rng(2)


def mixed_graph() -> bytes:
    """int8: convolution, average pool (which XNNPACK does not take), addition with a branch, a row picked, float."""
    file = TfliteFile()
    x = file.tensor("x", "int8", (1, 6, 6, 4), quantisation=ACTIVATION)
    scales = Quantisation((0.01,) * 4, (0,) * 4, 0)
    w = file.tensor("w", "int8", (4, 1, 1, 4), data=RNG.integers(-99, 99, (4, 1, 1, 4), np.int8), quantisation=scales)
    zeros = Quantisation((0.0005,) * 4, (0,) * 4, 0)
    b = file.tensor("b", "int32", (4,), data=np.zeros(4, np.int32), quantisation=zeros)
    c = file.tensor("c", "int8", (1, 6, 6, 4), quantisation=RESULT)
    file.operator("CONV_2D", [x, w, b], [c], "Conv2DOptions", version=3, strideW=1, strideH=1)
    p = file.tensor("p", "int8", (1, 6, 6, 4), quantisation=RESULT)
    file.operator("AVERAGE_POOL_2D", [c], [p], "Pool2DOptions", version=2, **POOL)
    s = file.tensor("s", "int8", (1, 6, 6, 4), quantisation=ACTIVATION)
    file.operator("ADD", [p, c], [s], "AddOptions", version=2)
    r = file.tensor("r", "int8", (1, 36, 4), quantisation=ACTIVATION)
    shape = file.tensor("shape", "int32", (3,), data=np.array([1, 36, 4], np.int32))
    file.operator("RESHAPE", [s, shape], [r], "ReshapeOptions")
    f = file.tensor("f", "float32", (1, 36, 4))
    file.operator("DEQUANTIZE", [r], [f], version=2)
    e = file.tensor("e", "float32", (1, 36, 4))
    file.operator("EXP", [f], [e])
    return file.finish({"x": x}, {"e": e})


@pytest.fixture
def graph(tmp_path: Path) -> TfliteGraph:
    (tmp_path / "model.tflite").write_bytes(mixed_graph())
    return read_tflite(tmp_path / "model.tflite")


def test_parts_of_the_delegate(graph: TfliteGraph) -> None:
    taken = delegated(mixed_graph(), graph, {})
    assert [op.op for i, op in enumerate(graph.operators) if i not in taken] == ["AVERAGE_POOL_2D"]
    assert delegated(mixed_graph(), graph, {"xnnpack": "false"}) == frozenset()


def test_the_delegate_says_the_same_of_single_operators(graph: TfliteGraph) -> None:
    """With joining switched off LiteRT appends one node per operator that it delegates."""
    alone = Interpreter(model_content=mixed_graph(), experimental_disable_delegate_node_fusion=True)
    alone.allocate_tensors()
    count = len(graph.operators)
    outputs = {int(n) for part in alone._get_ops_details()[count:] for n in part["outputs"]}
    single = frozenset(i for i, op in enumerate(graph.operators) if set(op.outputs) <= outputs)
    assert delegated(mixed_graph(), graph, {}) == single


def test_precisions_are_read_off_the_types(graph: TfliteGraph) -> None:
    found = {op.op: precision_of(graph, op) for op in graph.operators}
    assert found == {
        "CONV_2D": "int8",
        "AVERAGE_POOL_2D": "int8",
        "ADD": "int8",
        "RESHAPE": "integer",
        "DEQUANTIZE": "conversion",
        "EXP": "float32",
    }


@pytest.mark.parametrize(
    ("kind", "op", "taken"),
    [
        ("float32", "CONV_2D", True),
        ("float32", "AVERAGE_POOL_2D", True),
        ("int8", "CONV_2D", True),
        ("int8", "MAX_POOL_2D", True),
        ("int8", "AVERAGE_POOL_2D", False),
        ("int8", "RELU", False),
        ("int8", "SOFTMAX", False),
        ("int16", "CONV_2D", False),
        ("dynamic", "CONV_2D", True),
        ("dynamic", "DEPTHWISE_CONV_2D", False),
    ],
)
def test_what_xnnpack_takes(kind: str, op: str, taken: bool, tmp_path: Path) -> None:
    """Facts that the documentation states; a new release of LiteRT may change them."""
    content = single(kind, op)
    (tmp_path / "model.tflite").write_bytes(content)
    graph = read_tflite(tmp_path / "model.tflite")
    assert bool(delegated(content, graph, {})) is taken
    wanted = {"dynamic": "int8 (dynamic)"}.get(kind, kind)
    assert precision_of(graph, graph.operators[0]) == ("integer" if op in ("MAX_POOL_2D", "RELU") else wanted)


def single(kind: str, op: str) -> bytes:
    """A file of one operator on [1, 6, 6, 4] images."""
    file = TfliteFile()
    stored = "float32" if kind == "dynamic" else kind
    given = None if stored == "float32" else Quantisation((0.05,), (0,))
    fixed = Quantisation((1 / 256,), (-128,)) if op == "SOFTMAX" else given
    x = file.tensor("x", stored, (1, 6, 6, 4), quantisation=given)
    y = file.tensor("y", stored, (1, 6, 6, 4), quantisation=fixed)
    version = 1 if kind == "float32" else 2
    if op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        options = "Conv2DOptions" if op == "CONV_2D" else "DepthwiseConv2DOptions"
        depth = {} if op == "CONV_2D" else {"depthMultiplier": 1}
        inputs = [x, *_weights(file, kind, (4, 1, 1, 4) if op == "CONV_2D" else (1, 1, 1, 4))]
        file.operator(op, inputs, [y], options, version=3 + (kind == "int16"), strideW=1, strideH=1, **depth)
    elif op == "SOFTMAX":
        file.operator(op, [x], [y], "SoftmaxOptions", version=version, beta=1.0)
    elif op == "RELU":
        file.operator(op, [x], [y], version=version)
    else:
        file.operator(op, [x], [y], "Pool2DOptions", version=version, **POOL)
    return file.finish({"x": x}, {"y": y})


def _weights(file: TfliteFile, kind: str, shape: tuple[int, ...]) -> tuple[int, int]:
    if kind == "float32":
        weights = file.tensor("w", "float32", shape, data=RNG.normal(size=shape).astype(np.float32))
        return weights, file.tensor("b", "float32", (4,), data=np.zeros(4, np.float32))
    axis = 0 if shape[0] == 4 else 3
    scales = Quantisation((0.01,) * 4, (0,) * 4, axis)
    weights = file.tensor("w", "int8", shape, data=RNG.integers(-99, 99, shape, np.int8), quantisation=scales)
    bias = {"int8": "int32", "int16": "int64", "dynamic": "float32"}[kind]
    scaled = None if kind == "dynamic" else Quantisation((0.0005,) * 4, (0,) * 4, 0)
    return weights, file.tensor("b", bias, (4,), data=np.zeros(4, bias), quantisation=scaled)
