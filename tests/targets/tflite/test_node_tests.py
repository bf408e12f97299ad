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
from edgewright.targets._tflite.claims import claimed
from edgewright.targets._tflite.compile import compile_model
from edgewright.targets._tflite.options import Options

FIXED: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
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
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "DFT": (1, 2),
    "STFT": (1, 3),
    **dict.fromkeys(
        [f"Reduce{n}" for n in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")],
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


TYPES = (
    "FLOAT", "INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "BOOL",
)  # fmt: skip
"""Of which kernels take values; a test of another type (halves, doubles, 64-bit unsigned, floats of 8 bits, integers of
4) must be refused."""
COMPUTED = "sizes are computed while the model runs; a file has fixed sizes"
ADDS = "kernels of scatter only add"
EMPTY = "a tensor without elements; LiteRT refuses those"
BLOCKED = "one scale per block of an axis; the format has one per tensor or per index of an axis"
LOOP = "the definition of a window has a Loop; the operator itself is folded"
TRAINS = "trains"
INDICES = "gives the indices of maxima"
SCALE = "a scale is computed while the model runs"
UNSIGNED = "no kernel divides 32-bit unsigned integers"
WORDS = "kernels of quantisation know 16-bit integers with zero point 0 only"
EXCLUDED: Mapping[str, str] = {
    **dict.fromkeys(["test_batchnorm_example_training_mode", "test_batchnorm_epsilon_training_mode"], TRAINS),
    **dict.fromkeys(
        [
            f"test_training_dropout{n}"
            for n in ("", "_mask", "_default", "_default_mask", "_zero_ratio", "_zero_ratio_mask")
        ],
        TRAINS,
    ),
    **dict.fromkeys(
        [f"test_{n}window{s}_expanded" for n in ("blackman", "hamming", "hann") for s in ("", "_symmetric")], LOOP
    ),
    **dict.fromkeys(
        [
            f"test_center_crop_pad_{n}_expanded"
            for n in ("crop", "pad", "crop_and_pad", "crop_axes_hwc", "crop_negative_axes_hwc", "crop_axes_chw")
        ],
        COMPUTED,
    ),
    **dict.fromkeys([f"test_dynamicquantizelinear{n}_expanded" for n in ("", "_max_adjusted", "_min_adjusted")], SCALE),
    **dict.fromkeys([f"test_maxpool_with_argmax_2d_precomputed_{n}" for n in ("pads", "strides")], INDICES),
    **dict.fromkeys([f"test_scatter_elements_with_reduction_{n}" for n in ("mul", "max", "min")], ADDS),
    **dict.fromkeys(
        [
            f"test_scatternd_{n}"
            for n in ("multiply", "max", "min", "max_with_element_indices", "min_with_element_indices")
        ],
        ADDS,
    ),
    **dict.fromkeys(["test_constantofshape_int_shape_zero", "test_shape_start_greater_than_end"], EMPTY),
    **dict.fromkeys(
        [
            "test_dequantizelinear_blocked",
            "test_quantizelinear_blocked_asymmetric",
            "test_quantizelinear_blocked_symmetric",
        ],
        BLOCKED,
    ),
    **dict.fromkeys(
        ["test_dequantizelinear_uint16", "test_dequantizelinear_int16", "test_quantizelinear_uint16"], WORDS
    ),
    "test_div_uint32": UNSIGNED,
}
"""Tests of claimed operators that are not passed, with the reason. One that passes must leave the table."""


def operators(graph: onnx.GraphProto) -> set[str]:
    return {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in graph.node}


def foreign(model: onnx.ModelProto) -> bool:
    """Whether a test takes, gives or computes a type that no kernel takes."""
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    casts = [a.i for node in model.graph.node for a in node.attribute if a.name in ("to", "dtype", "softmax_precision")]
    return any(onnx.TensorProto.DataType.Name(kind) not in TYPES for kind in [*kinds, *casts] if kind or kind in kinds)


def held(model: onnx.ModelProto) -> bool:
    """Whether NumPy holds what a test takes and gives: no strings, no optional values."""
    kinds = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    return not {onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING} & {*kinds}


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


def claimed_cases(modules: Sequence[str] = ()) -> dict[str, Any]:
    """The tests of which all operators are claimed."""
    known = {*claimed()}
    return {name: case for name, case in cases(modules).items() if operators(case.model.graph) <= known}


@pytest.mark.slow
def test_every_node_test_of_a_claimed_operator_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """100% of the tests of claimed operators, less a table of exclusions; none of them is stale."""
    chosen = claimed_cases()
    native = {name: case for name, case in chosen.items() if not foreign(case.model)}
    failed = {name: why for name, case in native.items() if (why := fault(case))}
    with capsys.disabled():
        print(f"\nLiteRT: {len(native) - len(failed)} of {len(native)} node tests of {len(claimed())} claimed "
              f"operators pass, {len(EXCLUDED)} excluded")  # fmt: skip
    assert {name: why for name, why in failed.items() if name not in EXCLUDED} == {}
    assert sorted(set(EXCLUDED) - set(failed)) == [], "these pass: take them out of the table"


@pytest.mark.slow
def test_types_without_kernels_are_refused() -> None:
    """Nothing that LiteRT has no kernels for is computed wrongly: it is refused, or right after all."""
    chosen = {name: case for name, case in claimed_cases().items() if foreign(case.model) and held(case.model)}
    found = {name: fault(case) for name, case in chosen.items()}
    assert len(found) > 200
    assert {name: why for name, why in found.items() if why and not why.startswith("StepFailed")} == {}


FAST = (
    "add",
    "argmax",
    "clip",
    "concat",
    "gather",
    "gemm",
    "matmul",
    "reducemean",
    "slice",
    "softmax",
    "split",
    "where",
)
"""Case modules of `onnx` that every check runs."""


@pytest.mark.slow
def test_common_operators_pass_their_node_tests() -> None:
    known = [case for case in claimed_cases(FAST).values() if not foreign(case.model)]
    chosen = [case for case in known if any(case.name.startswith(f"test_{name}") for name in FAST)]
    assert len(chosen) > 60
    assert {case.name: why for case in chosen if case.name not in EXCLUDED and (why := fault(case))} == {}


def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.targets._tflite import compile as compiler
    from edgewright.targets._tflite.rules import arithmetic

    case = cases(["add"])["test_add"]
    assert not fault(case)
    monkeypatch.setattr(compiler, "RULES", {**compiler.RULES, ("", "Add"): arithmetic.RULES["", "Sub"]})
    assert "Not equal to tolerance" in fault(case)
