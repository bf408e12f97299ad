"""Weights in 4 and 8 bits: ONNX Runtime's own kernel computes what our integers stand for, and GPTQ loses less."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgewright.graph import blockwise, weights_only
from edgewright.graph.names import name_nodes


def _gemm(weights: np.ndarray, bias: np.ndarray, transposed: bool) -> ir.Model:
    inputs, outputs = weights.shape
    stored = np.ascontiguousarray(weights.T) if transposed else weights
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "c"], ["y"], transB=int(transposed))],
        "gemm",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", inputs])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(bias, "c")],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    name_nodes(model.graph)
    return model


def _run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("inputs", "outputs", "size"), [(64, 24, 16), (100, 7, 32), (96, 5, 64)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_runtime_reads_our_packing(bits: int, inputs: int, outputs: int, size: int, transposed: bool) -> None:
    rng = np.random.default_rng(bits + inputs)
    weights = rng.normal(size=(inputs, outputs)).astype(np.float32)
    bias = rng.normal(size=outputs).astype(np.float32)
    x = rng.normal(size=(9, inputs)).astype(np.float32)
    model = _gemm(weights, bias, transposed)
    errors = weights_only.rewrite(model, weights_only.products(model.graph), {}, bits, size, 1)
    blocks = blockwise.round_to_nearest(weights, bits, size)
    expected = x @ blocks.real() + bias
    assert np.abs(_run(model, x) - expected).max() < 1e-4 * np.abs(expected).max()
    assert next(iter(errors.values())) == pytest.approx(
        ((blocks.real() - weights) ** 2).sum() / (weights**2).sum(), 1e-4
    )
    assert [node.op_type for node in model.graph] == ["MatMulNBits", "Add"]
    assert "w" not in model.graph.initializers


@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_loses_less_than_rounding_on_correlated_inputs(bits: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(64, 32)).astype(np.float32)
    x = (rng.normal(size=(400, 64)) @ rng.normal(size=(64, 64))).astype(np.float32)
    gram = (x.T @ x).astype(np.float64)
    exact = x @ weights
    rounded = ((x @ blockwise.round_to_nearest(weights, bits, 32).real() - exact) ** 2).sum()
    corrected = ((x @ blockwise.gptq(weights, gram, bits, 32).real() - exact) ** 2).sum()
    assert corrected < 0.5 * rounded


def test_gptq_with_independent_inputs_is_rounding() -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(48, 8)).astype(np.float32)
    found, rounded = blockwise.gptq(weights, np.eye(48), 4, 16), blockwise.round_to_nearest(weights, 4, 16)
    assert np.array_equal(found.integers, rounded.integers)
    assert np.array_equal(found.scale, rounded.scale)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(32, 4)).astype(np.float32)
    x = rng.normal(size=(50, 32)).astype(np.float32)
    x[:, 5] = 0
    found = blockwise.gptq(weights, (x.T @ x).astype(np.float64), 8, 16).real()
    assert np.isfinite(found).all()
    assert np.abs(x @ found - x @ weights).max() < 0.2


@given(st.integers(1, 70), st.integers(1, 5), st.sampled_from([4, 8]), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_every_value_lies_within_half_a_step_and_zero_is_exact(k: int, n: int, bits: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(k, n)).astype(np.float32)
    weights[0] = 0
    blocks = blockwise.round_to_nearest(weights, bits, 16)
    step = blocks.scale[np.arange(k) // 16]
    assert (np.abs(blocks.real() - weights) <= 1.01 * step).all()  # rounding, and the rounding of the zero point
    assert (blocks.real()[0] == 0).all()


def test_products_that_are_not_plain_stay_float() -> None:
    model = _gemm(np.ones((16, 4), np.float32), np.zeros(4, np.float32), False)
    model.graph.node(0).attributes.add(ir.AttrFloat32("alpha", 2.0))
    assert weights_only.products(model.graph) == ()
    model = _gemm(np.ones((16, 4), np.float32), np.zeros(4, np.float32), False)
    assert weights_only.products(model.graph, ("@last",)) == ()
