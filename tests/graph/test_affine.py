"""Quantisation arithmetic, bit for bit against ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgewright.graph.affine import activation_grid, channel_range, dequantise, parameters, quantise, weight_grid

FLOATS = st.floats(-1e4, 1e4, width=32)
SCALES = st.floats(1.0000000031710769e-30 + 1e-6, 100.0).map(lambda v: float(np.float32(v)))


@cache
def session(op: str, dtype: str, per_channel: bool) -> onnxruntime.InferenceSession:
    integer = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}[dtype]
    shape: list[int | str] = ["n"] if per_channel else []
    source, result = (TensorProto.FLOAT, integer) if op == "QuantizeLinear" else (integer, TensorProto.FLOAT)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "scale", "zero"], ["y"], **({"axis": 0} if per_channel else {}))],
        "g",
        [
            helper.make_tensor_value_info("x", source, ["n", "m"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("zero", integer, shape),
        ],
        [helper.make_tensor_value_info("y", result, ["n", "m"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def onnx_runs(op: str, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any]) -> NDArray[Any]:
    found = session(op, zero.dtype.name, scale.ndim == 1).run(None, {"x": x, "scale": scale, "zero": zero})
    return np.asarray(found[0])


@settings(max_examples=150, deadline=None)
@given(
    x=arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=FLOATS),
    scale=SCALES,
    zero=st.integers(0, 255),
    dtype=st.sampled_from(["uint8", "int8"]),
)
def test_quantise_equals_onnx_runtime(x: NDArray[Any], scale: float, zero: int, dtype: str) -> None:
    zeros = np.asarray(zero + np.iinfo(dtype).min, dtype)
    expected = onnx_runs("QuantizeLinear", x, np.asarray(scale, np.float32), zeros)
    got = quantise(x, scale, int(zeros), activation_grid(dtype, False))
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_ties_go_to_the_even_neighbour(dtype: str) -> None:
    x = (np.arange(-20, 21, dtype=np.float32) + np.float32(0.5)).reshape(1, -1)
    zero = np.asarray(100, dtype)
    expected = onnx_runs("QuantizeLinear", x, np.asarray(1.0, np.float32), zero)
    np.testing.assert_array_equal(quantise(x, 1.0, 100, activation_grid(dtype, False)), expected)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(x=arrays(np.float32, (3, 20), elements=FLOATS), scales=st.lists(SCALES, min_size=3, max_size=3))
def test_per_channel_there_and_back_equals_onnx_runtime(x: NDArray[Any], scales: list[float]) -> None:
    scale, zero = np.asarray(scales, np.float32), np.asarray([-3, 0, 7], np.int8)
    integers = quantise(x, scale, zero, activation_grid("int8", False), 0)
    np.testing.assert_array_equal(integers, onnx_runs("QuantizeLinear", x, scale, zero))
    np.testing.assert_array_equal(
        dequantise(integers, scale, zero, 0), onnx_runs("DequantizeLinear", integers, scale, zero)
    )


@given(
    low=st.floats(-1e5, 1e5),
    high=st.floats(-1e5, 1e5),
    dtype=st.sampled_from(["uint8", "int8"]),
    symmetric=st.booleans(),
)
def test_parameters_cover_the_range_and_hold_zero_exactly(low: float, high: float, dtype: str, symmetric: bool) -> None:
    low, high = min(low, high), max(low, high)
    grid = activation_grid(dtype, symmetric)
    scale, zero = parameters(np.asarray(low), np.asarray(high), grid, symmetric)
    assert float(dequantise(quantise(np.zeros(1), scale, zero, grid), scale, zero)[0]) == 0.0
    for edge in (low, high):
        back = float(dequantise(quantise(np.asarray([edge], np.float32), scale, zero, grid), scale, zero)[0])
        assert abs(back - edge) <= 1.01 * float(scale) + 1e-6 * abs(edge)


@settings(deadline=None)
@given(
    values=arrays(np.float32, (4, 9), elements=st.floats(-10, 10, width=32)),
    bits=st.integers(2, 8),
    axis=st.sampled_from([None, 0, 1]),
)
def test_weights_are_within_half_a_step(values: NDArray[Any], bits: int, axis: int | None) -> None:
    grid = weight_grid("int8", bits)
    scale, zero = parameters(*channel_range(values, axis), grid, symmetric=True)
    integers = quantise(values, scale, zero, grid, axis)
    assert np.abs(integers.astype(int)).max() <= 2 ** (bits - 1) - 1
    error = np.abs(dequantise(integers, scale, zero, axis) - values)
    shape = [1, 1]
    if axis is not None:
        shape[axis] = -1
    assert np.all(error <= 0.501 * scale.reshape(shape) + 1e-6)


def test_grids_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(ValueError, match="9 bits"):
        weight_grid("int8", 9)
