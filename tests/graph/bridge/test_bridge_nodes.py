"""The ONNX backend node tests, which come inside the `onnx` package, run through the bridge."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import numpy_helper

from edgewright.graph.bridge import claims, oldest_opset, to_torch
from edgewright.graph.bridge.elements import to_array, to_tensor

STRINGS = "strings cannot be held in PyTorch"
RANDOM = "asks for the random numbers of NumPy"
BFLOAT16 = "tolerance 1e-3 is below one step of bfloat16 (2^-8); the order of sums decides"
FLOAT16 = "one element in 192 is one step of float16 away, over the tolerance of 1e-3; the order of sums decides"
RESIDUE = "expects the rounding residue 1.9e-7 where zero is exact, over the absolute tolerance of 1e-7"
SCAN_8 = "Scan had a batch axis in opset 8, and is claimed from opset 9 on"
ROUNDED = {
    **dict.fromkeys(
        [
            f"test_attention_{name}_bf16{tail}"
            for name in ("4d_causal", "4d_padded_kv", "4d_causal_padded_kv", "4d_attn_mask_causal", "3d_causal")
            for tail in ("", "_expanded")
        ],
        BFLOAT16,
    ),
    "test_dft_inverse": RESIDUE,
    "test_dft_inverse_opset19": RESIDUE,
    "test_attention_4d_causal_fp16": FLOAT16,
    "test_attention_4d_causal_fp16_expanded": FLOAT16,
}
EXCLUDED = {
    **ROUNDED,
    "test_equal_string": STRINGS,
    "test_equal_string_broadcast": STRINGS,
    "test_scan_sum": SCAN_8,
    "test_training_dropout": RANDOM,
    "test_training_dropout_default": RANDOM,
    "test_training_dropout_default_mask": RANDOM,
    "test_training_dropout_mask": RANDOM,
}
"""Tests of claimed operators that are not passed, with the reason. One that passes must leave the table."""
FAST = {
    "add": "Add", "batch_normalization": "BatchNormalization", "clip": "Clip",
    "concat": "Concat", "conv": "Conv", "flatten": "Flatten", "gemm": "Gemm", "matmul": "MatMul",
    "mul": "Mul", "pad": "Pad", "quantizelinear": "QuantizeLinear", "relu": "Relu", "reshape": "Reshape",
    "sigmoid": "Sigmoid", "slice": "Slice", "softmax": "Softmax", "split": "Split", "squeeze": "Squeeze",
    "transpose": "Transpose", "unsqueeze": "Unsqueeze",
}  # fmt: skip
"""Case module of `onnx` -> operator, of the tests that every check runs."""


def operators(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from operators(attribute.g)


def cases(modules: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Name -> test of every test of which all operators are claimed; of some case modules only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = importlib.import_module("onnx.backend.test.case.node")
        if modules is None:
            package.collect_testcases()
        else:
            for name in modules:
                importlib.import_module(f"{package.__name__}.{name}")
    known = claims() if modules is None else {*modules.values()}
    return {t.name: t for t in package._NodeTestCases if set(operators(t.model.graph)) <= known}


def tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [tensors(v) for v in value]
    if isinstance(value, onnx.TensorProto):
        return to_tensor(numpy_helper.to_array(value), ir.DataType(value.data_type))
    return None if value is None else to_tensor(np.asarray(value))


def compare(found: Any, expected: Any, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            compare(one, other, rtol, atol)
        return
    if isinstance(expected, onnx.TensorProto):
        kind = ir.DataType(expected.data_type)
        array = numpy_helper.to_array(expected)
        assert found.dtype == tensors(expected).dtype, kind
    else:
        array = np.asarray(expected)
    result = to_array(found)
    if array.dtype.kind not in "fiubc" or result.dtype.kind not in "fiubc":
        result, array = result.astype(np.float64), array.astype(np.float64)
    assert result.dtype == array.dtype
    assert result.shape == array.shape
    np.testing.assert_allclose(result, array, rtol=rtol, atol=atol)


def fault(case: Any, rtol: float | None = None, atol: float | None = None) -> str:
    """Why a test is not passed; empty when it is."""
    try:
        module = to_torch(ir.from_proto(case.model))
        for inputs, outputs in case.data_sets:
            with torch.no_grad():
                results = module(*(tensors(value) for value in inputs))
            compare(list(results), list(outputs), rtol or case.rtol, atol or case.atol)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


@pytest.mark.slow
def test_common_operators_pass_their_node_tests() -> None:
    chosen = cases(FAST)
    assert len(chosen) > 90
    assert {name: why for name, case in chosen.items() if name not in EXCLUDED and (why := fault(case))} == {}


@pytest.mark.slow
def test_every_node_test_of_a_claimed_operator_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """100% of the tests of claimed operators, less a table of exclusions under 5%; none of them is stale."""
    chosen = cases()
    failed = {name: why for name, case in chosen.items() if (why := fault(case))}
    passed = len(chosen) - len(failed)
    with capsys.disabled():
        print(f"\nbridge: {passed} of {len(chosen)} node tests of {len(claims())} claimed operators pass, "
              f"{len(EXCLUDED)} excluded ({len(EXCLUDED) / len(chosen):.1%})")  # fmt: skip
    assert {name: why for name, why in failed.items() if name not in EXCLUDED} == {}
    assert sorted(set(EXCLUDED) - set(failed)) == [], "these pass: take them out of the table"
    assert len(EXCLUDED) < 0.05 * len(chosen)
    coarse = {name: fault(chosen[name], rtol=2.0**-6, atol=1e-6) for name in ROUNDED}
    assert not any(coarse.values()), "more than rounding"
    tested = {name for case in chosen.values() for name in operators(case.model.graph)}
    assert claims() - tested == UNTESTED


UNTESTED = {"ConcatFromSequence", "GlobalLpPool", "SequenceErase"}
"""Claimed, but `onnx` has no node test of them; `test_bridge_operators` has."""


def test_a_wrong_operator_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgewright.graph.bridge import convert

    case = cases({"relu": "Relu"})["test_relu"]
    assert not fault(case)
    monkeypatch.setitem(convert.OPERATORS, "Relu", torch.abs)
    assert "Not equal to tolerance" in fault(case)


def test_oldest_opsets_are_those_of_the_operators() -> None:
    assert oldest_opset("Conv") == 7
    assert oldest_opset("Scan") == 9
    assert oldest_opset("GridSample") == 16
