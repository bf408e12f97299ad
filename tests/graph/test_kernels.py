"""Quantisation arithmetic over every type, axis and extreme, bit for bit against ONNX Runtime's own kernels."""

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

from edgewright.graph.affine import activation_grid, dequantise, parameters, quantise

TYPES = ("int8", "uint8", "int16", "uint16")
ONNX = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
    "int32": TensorProto.INT32,
}
TINY = float(np.finfo(np.float32).smallest_subnormal)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SCALES = st.one_of(
    st.floats(2.0**-10, 10.0, width=32),
    st.sampled_from([TINY, 1e-40, 1e-38, 1e-20, 1e20, 3e38]).map(lambda v: float(np.float32(v))),
)


def session(nodes: list[Any], inputs: dict[str, tuple[int, int]], result: int) -> onnxruntime.InferenceSession:
    """Inputs by name: element type and rank."""
    given_ = [
        helper.make_tensor_value_info(name, kind, [f"{name}{i}" for i in range(rank)])
        for name, (kind, rank) in inputs.items()
    ]
    graph = helper.make_graph(nodes, "g", given_, [helper.make_tensor_value_info("y", result, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@cache
def linear(op: str, dtype: str, rank: int, axis: int | None) -> onnxruntime.InferenceSession:
    attributes = {} if axis is None else {"axis": axis}
    few = 0 if axis is None else 1
    source, result = (TensorProto.FLOAT, ONNX[dtype]) if op == "QuantizeLinear" else (ONNX[dtype], TensorProto.FLOAT)
    inputs = {"x": (source, rank), "s": (TensorProto.FLOAT, few), "z": (ONNX[dtype], few)}
    return session([helper.make_node(op, ["x", "s", "z"], ["y"], **attributes)], inputs, result)


def ran(op: str, dtype: str, x: NDArray[Any], s: NDArray[Any], z: NDArray[Any], axis: int | None) -> NDArray[Any]:
    return np.asarray(linear(op, dtype, x.ndim, axis).run(None, {"x": x, "s": s, "z": z})[0])


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(TYPES), scale=SCALES)
def test_every_type_and_extreme_scale(data: st.DataObject, dtype: str, scale: float) -> None:
    info = np.iinfo(dtype)
    x = data.draw(arrays(np.float32, st.integers(1, 40), elements=FLOATS))
    zero = np.asarray(data.draw(st.integers(int(info.min), int(info.max))), dtype)
    s = np.asarray(scale, np.float32)
    expected = ran("QuantizeLinear", dtype, x, s, zero, None)
    got = quantise(x, s, zero, activation_grid(dtype, False))
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(dequantise(got, s, zero), ran("DequantizeLinear", dtype, got, s, zero, None))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data(), dtype=st.sampled_from(TYPES), axis=st.integers(-3, 2))
def test_every_axis_also_counted_from_the_back(data: st.DataObject, dtype: str, axis: int) -> None:
    shape = (2, 3, 4)
    info = np.iinfo(dtype)
    x = data.draw(arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32)))
    scale = data.draw(arrays(np.float32, shape[axis], elements=st.floats(2.0**-10, 10.0, width=32)))
    zero = data.draw(arrays(np.dtype(dtype), shape[axis], elements=st.integers(int(info.min), int(info.max))))
    got = quantise(x, scale, zero, activation_grid(dtype, False), axis)
    np.testing.assert_array_equal(got, ran("QuantizeLinear", dtype, x, scale, zero, axis))
    back = dequantise(got, scale, zero, axis)
    np.testing.assert_array_equal(back, ran("DequantizeLinear", dtype, got, scale, zero, axis))


@pytest.mark.parametrize("dtype", TYPES)
def test_ties_round_to_even_and_ends_saturate(dtype: str) -> None:
    info = np.iinfo(dtype)
    x = np.concatenate([np.arange(-300, 300) + 0.5, [1e9, -1e9, info.max, info.min]]).astype(np.float32)
    zero = np.asarray(7, dtype)
    got = quantise(x, np.float32(1), zero, activation_grid(dtype, False))
    np.testing.assert_array_equal(got, ran("QuantizeLinear", dtype, x, np.asarray(1, np.float32), zero, None))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_saturate_and_nan_is_the_lowest(dtype: str, value: float) -> None:
    info = np.iinfo(dtype)
    x, zero = np.full(19, value, np.float32), np.asarray(5, dtype)
    got = quantise(x, np.float32(0.5), zero, activation_grid(dtype, False))
    assert set(got.tolist()) == {info.max if value > 0 else info.min}
    expected = ran("QuantizeLinear", dtype, x, np.asarray(0.5, np.float32), zero, None)
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=60, deadline=None)
@given(
    x=arrays(np.int32, 12, elements=st.integers(-(2**31), 2**31 - 1)),
    scale=arrays(np.float32, 3, elements=st.floats(2.0**-30, 1.0, width=32)),
)
def test_biases_of_32_bits_come_back_alike(x: NDArray[Any], scale: NDArray[Any]) -> None:
    stored = x.reshape(3, 4)
    zero = np.zeros(3, np.int32)
    expected = ran("DequantizeLinear", "int32", stored, scale, zero, 0)
    np.testing.assert_array_equal(dequantise(stored, scale, zero, 0), expected)


@cache
def product(op: str, activation: str, weight: str) -> onnxruntime.InferenceSession:
    rank = 4 if op == "QLinearConv" else 2
    names = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    few = 1 if op == "QLinearConv" else 0
    kinds = {
        "a": (ONNX[activation], rank), "as": (TensorProto.FLOAT, 0), "az": (ONNX[activation], 0),
        "b": (ONNX[weight], rank), "bs": (TensorProto.FLOAT, few), "bz": (ONNX[weight], few),
        "ys": (TensorProto.FLOAT, 0), "yz": (ONNX[activation], 0),
    }  # fmt: skip
    return session([helper.make_node(op, names, ["y"])], kinds, ONNX[activation])


def requantised(sums: NDArray[Any], factor: NDArray[Any], zero: int, dtype: str) -> NDArray[Any]:
    """Sums of products, in int32, to integers of the output: one multiplication in float32, round to even, saturate."""
    scaled = sums.astype(np.float32) * factor.astype(np.float32)
    info = np.iinfo(dtype)
    return np.clip(np.rint(scaled).astype(np.float64) + zero, info.min, info.max).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), activation=st.sampled_from(["uint8", "int8"]))
def test_integer_product_requantises_like_the_kernel(data: st.DataObject, activation: str) -> None:
    """Weights of 7 bits: with 8 the AVX2 kernel adds products in 16 bits, which saturates."""
    info = np.iinfo(activation)
    whole = st.integers(int(info.min), int(info.max))
    a = data.draw(arrays(np.dtype(activation), (3, 8), elements=whole))
    b = data.draw(arrays(np.int8, (8, 5), elements=st.integers(-63, 63)))
    az, yz = data.draw(whole), data.draw(whole)
    scales = [np.float32(data.draw(st.floats(2.0**-10, 1.0, width=32))) for _ in range(3)]
    feed = {
        "a": a, "as": np.asarray(scales[0], np.float32), "az": np.asarray(az, activation),
        "b": b, "bs": np.asarray(scales[1], np.float32), "bz": np.asarray(0, np.int8),
        "ys": np.asarray(scales[2], np.float32), "yz": np.asarray(yz, activation),
    }  # fmt: skip
    expected = product("QLinearMatMul", activation, "int8").run(None, feed)[0]
    sums = (a.astype(np.int64) - az) @ b.astype(np.int64)
    factor = np.asarray(scales[0] * scales[1] / scales[2])
    np.testing.assert_array_equal(requantised(sums, factor, yz, activation), expected)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), activation=st.sampled_from(["uint8", "int8"]))
def test_integer_convolution_requantises_like_the_kernel(data: st.DataObject, activation: str) -> None:
    """1 x 1 convolution, one scale per output channel."""
    info = np.iinfo(activation)
    whole = st.integers(int(info.min), int(info.max))
    a = data.draw(arrays(np.dtype(activation), (1, 4, 3, 3), elements=whole))
    b = data.draw(arrays(np.int8, (5, 4, 1, 1), elements=st.integers(-63, 63)))
    az, yz = data.draw(whole), data.draw(whole)
    s, ys = (np.float32(data.draw(st.floats(2.0**-10, 1.0, width=32))) for _ in range(2))
    ws = data.draw(arrays(np.float32, 5, elements=st.floats(2.0**-10, 1.0, width=32)))
    feed = {
        "a": a, "as": np.asarray(s, np.float32), "az": np.asarray(az, activation), "b": b, "bs": ws,
        "bz": np.zeros(5, np.int8), "ys": np.asarray(ys, np.float32), "yz": np.asarray(yz, activation),
    }  # fmt: skip
    expected = product("QLinearConv", activation, "int8").run(None, feed)[0]
    sums = np.einsum("oi,bihw->bohw", b[:, :, 0, 0].astype(np.int64), a.astype(np.int64) - az)
    factor = (s * ws / ys).astype(np.float32).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(requantised(sums, factor, yz, activation), expected)


@given(
    low=st.floats(-(2.0**127), 0.0, width=32),
    high=st.floats(0.0, 2.0**127, width=32),
    dtype=st.sampled_from(TYPES),
    symmetric=st.booleans(),
)
def test_parameters_of_any_range_are_finite_and_hold_zero(low: float, high: float, dtype: str, symmetric: bool) -> None:
    grid = activation_grid(dtype, symmetric)
    scale, zero = parameters(np.asarray(low), np.asarray(high), grid, symmetric)
    assert np.isfinite(scale)
    assert scale > 0
    assert grid.low <= int(zero) <= grid.high
    assert float(dequantise(quantise(np.zeros(1, np.float32), scale, zero, grid), scale, zero)[0]) == 0.0
