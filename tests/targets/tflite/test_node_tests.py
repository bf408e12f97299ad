"""The ONNX backend node tests, which come inside the `onnx` package, compiled and run by LiteRT."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgewright.core.target import Plan
from edgewright.graph.names import name_nodes
from edgewright.graph.tidy import tidy
from edgewright.runtimes.litert import LiteRtRunner
from edgewright.targets._tflite.compile import claimed, compile_model
from edgewright.targets._tflite.options import Options

FIXED: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "CumProd": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
    "HannWindow": (0,),
    "HammingWindow": (0,),
    "BlackmanWindow": (0,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "DFT": (1, 2),
    "STFT": (1, 3),
    **dict.fromkeys(
        ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"]
        + ["ReduceProd", "ReduceSum", "ReduceSumSquare"],
        (1,),
    ),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], (1, 2)),
    **dict.fromkeys(["Conv", "ConvTranspose"], (1, 2)),
    **dict.fromkeys(["ConvInteger"], (1, 2, 3)),
    **dict.fromkeys(["MatMulInteger"], (2, 3)),
    **dict.fromkeys(["LSTM", "GRU", "RNN"], (1, 2, 3, 4, 7)),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "BatchNormalization": (1, 2, 3, 4),
}
"""Operator -> inputs that are constants in a file of fixed sizes; the tests of `onnx` give them as inputs."""


def operators(graph: onnx.GraphProto) -> set[str]:
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in graph.node}


def cases(modules: Sequence[str] = ()) -> dict[str, Any]:
    """Name -> test, of all case modules of `onnx` or of some."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("onnx.backend.test.case.node")
        if not modules:
            package.collect_testcases()
        for name in modules:
            importlib.import_module(f"{package.__name__}.{name}")
    return {case.name: case for case in package._NodeTestCases}


def bound(model: onnx.ModelProto, inputs: Sequence[Any]) -> tuple[ir.Model, dict[str, NDArray[Any]]]:
    """The model with its fixed inputs as constants, and the values of the others."""
    fixed = {
        node.input[index]
        for node in model.graph.node
        for index in FIXED.get(node.op_type, ())
        if index < len(node.input)
    }
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    del proto.graph.input[:]
    feed = {}
    for value, given in zip(model.graph.input, inputs, strict=True):
        array = numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)
        if value.name in fixed:
            proto.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            proto.graph.input.append(value)
            feed[value.name] = array
    return tidied(proto), feed


def tidied(proto: onnx.ModelProto) -> ir.Model:
    model, _ = tidy(ir.from_proto(proto))
    name_nodes(model.graph)
    return model


def run(model: ir.Model, feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """What the compiled model gives, in the order of its outputs."""
    compiled = compile_model(model, Plan("none"), Options(channels_last=False))
    runner = LiteRtRunner(compiled.content, "test")
    return list(runner.run(feed).values())


def compare(found: NDArray[Any], expected: NDArray[Any], rtol: float, atol: float) -> None:
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def fault(case: Any) -> str:
    """Why a test is not passed; empty when it is."""
    try:
        for inputs, outputs in case.data_sets:
            model, feed = bound(case.model, inputs)
            found = run(model, feed)
            for result, expected in zip(found, outputs, strict=True):
                array = numpy_helper.to_array(expected) if isinstance(expected, onnx.TensorProto) else expected
                compare(result, np.asarray(array), case.rtol, case.atol)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:400]
    return ""
