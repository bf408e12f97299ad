"""Predicted saturation against the integer kernels of ONNX Runtime on this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.target import Plan, TensorPlan
from edgewright.graph import qdq
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.saturation import (
    LARGEST,
    SaturationRisk,
    hint,
    least_scale,
    pairs,
    predict,
    saturating_product,
    terms,
    told,
)
from edgewright.graph.schemes import find
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import Statistics, TensorStatistics
from edgewright.runtimes._machine import local_device

SATURATES = local_device().machine == "x86_64" and not {"avx512_vnni", "avx_vnni"} & set(local_device().isa)
"""What the kernels here are expected to do; on other processors every sum must come out exact."""

RNG = np.random.default_rng(3)


def convolution(weights: Any, x: Any, group: int, dims: int) -> Any:
    """Runs one QLinearConv (stride 1, no padding) and returns (result, requantised exact, requantised saturated)."""
    exact = _reduce(weights, x, group, lambda a, w: a.astype(np.int64) @ w.astype(np.int64).T)
    saturated = _reduce(weights, x, group, saturating_product)
    scale = np.float32(max(np.abs(exact).max(), 1) / 120)
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "w": weights,
        "ws": np.ones(len(weights), np.float32),
        "wz": np.zeros(len(weights), np.int8),
        "ys": scale,
        "yz": np.uint8(128),
    }
    names = ["x", "one", "zero", "w", "ws", "wz", "ys", "yz"]
    node = helper.make_node("QLinearConv", names, ["y"], group=group, kernel_shape=list(weights.shape[2:]))
    found = run([node], constants, {"x": x}, TensorProto.UINT8)
    return found, *(np.clip(np.rint(s.astype(np.float32) / scale) + 128, 0, 255) for s in (exact, saturated))


def _reduce(weights: Any, x: Any, group: int, product: Any) -> Any:
    kernel = weights.shape[2:]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=axes)  # n, c, *out, *kernel
    node = ir.node("Conv", [], {"group": group})
    found = []
    for part, filters in zip(np.split(windows, group, 1), np.split(weights, group), strict=True):
        rows = np.moveaxis(part, 1, -1).reshape(-1, part.shape[1] * int(np.prod(kernel)))  # positions, then channels
        ordered = terms(node, filters)
        assert ordered is not None or group > 1
        columns = np.moveaxis(filters, 1, -1).reshape(len(filters), -1) if ordered is None else ordered
        found.append(product(rows, columns).reshape(x.shape[0], *windows.shape[2 : x.ndim], -1))
    return np.moveaxis(np.concatenate(found, -1), -1, 1)


def run(nodes: list[Any], constants: dict[str, Any], feed: dict[str, Any], kind: int) -> Any:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feed.items()
    ]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def strong(*shape: int) -> Any:
    """Weights of which many pairs saturate."""
    return (np.sign(RNG.normal(size=shape)) * RNG.integers(90, 128, shape)).astype(np.int8)


CONVOLUTIONS = [  # channels in, out, kernel, groups
    (16, 16, (1, 1), 1),
    (16, 24, (3, 3), 1),
    (3, 16, (3, 3), 1),
    (1, 16, (10, 4), 1),
    (5, 7, (3, 2), 1),
    (17, 17, (1, 1), 1),
    (12, 12, (3, 3), 4),
    (8, 16, (3, 3), 8),
    (6, 10, (5,), 1),
    (160, 8, (3, 3), 1),
]
DEPTHWISE = [(16, (3, 3)), (16, (5, 5)), (24, (7, 7)), (5, (3, 3)), (16, (1, 1)), (8, (3,))]


@pytest.mark.parametrize(("read", "write", "kernel", "group"), CONVOLUTIONS)
def test_neighbouring_products_of_convolutions(read: int, write: int, kernel: tuple[int, ...], group: int) -> None:
    x = RNG.integers(120, 256, (2, read, *(k + 4 for k in kernel))).astype(np.uint8)
    found, exact, saturated = convolution(strong(write, read // group, *kernel), x, group, len(kernel))
    assert np.any(exact != saturated)
    np.testing.assert_array_equal(found, saturated if SATURATES else exact)


@pytest.mark.parametrize(("channels", "kernel"), DEPTHWISE)
def test_depthwise_convolutions_are_exact_everywhere(channels: int, kernel: tuple[int, ...]) -> None:
    weights = strong(channels, 1, *kernel)
    assert terms(ir.node("Conv", [], {"group": channels}), weights) is None
    x = RNG.integers(120, 256, (2, channels, *(k + 4 for k in kernel))).astype(np.uint8)
    found, exact, _ = convolution(weights, x, channels, len(kernel))
    np.testing.assert_array_equal(found, exact)


@given(rows=st.integers(1, 6), depth=st.integers(1, 300), columns=st.integers(1, 20), seed=st.integers(0, 2**32 - 1))
def test_products_of_matrices(rows: int, depth: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (rows, depth)).astype(np.uint8)
    w = rng.integers(-128, 128, (depth, columns)).astype(np.int8)
    found = run([helper.make_node("MatMulInteger", ["a", "w"], ["y"])], {"w": w}, {"a": a}, TensorProto.INT32)
    ordered = terms(ir.node("MatMul", []), w)
    assert ordered is not None
    exact = a.astype(np.int64) @ w.astype(np.int64)
    np.testing.assert_array_equal(found, saturating_product(a, ordered) if SATURATES else exact)


@given(first=st.integers(0, 255), second=st.integers(0, 255), weights=st.tuples(*[st.integers(-128, 127)] * 2))
def test_a_pair_saturates_only_where_that_is_possible(first: int, second: int, weights: tuple[int, int]) -> None:
    risk = _predicted(np.array([weights]), None)
    assert risk is not None
    total = first * weights[0] + second * weights[1]
    if not -LARGEST - 1 <= total <= LARGEST:
        assert risk.possible == 1
        assert risk.worst > 1
    assert risk.safe == (risk.worst <= 1)


@given(weights=st.lists(st.tuples(*[st.integers(-64, 64)] * 2), min_size=1, max_size=9))
def test_seven_bits_are_safe_whatever_the_input(weights: list[tuple[int, int]]) -> None:
    risk = _predicted(np.array(weights), None)
    assert risk is not None
    assert risk.safe


@pytest.mark.slow
@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(0, 9), min_size=256, max_size=256).filter(any),
    weights=st.tuples(*[st.integers(-128, 127)] * 2),
)
def test_expectation_is_that_of_independent_neighbours(counts: list[int], weights: tuple[int, int]) -> None:
    risk = _predicted(np.array([weights]), counts)
    assert risk is not None
    chance = np.asarray(counts) / sum(counts)
    sums = np.arange(256)[:, None] * weights[0] + np.arange(256)[None] * weights[1]
    joint = chance[:, None] * chance[None]
    cut = np.clip(sums, -LARGEST - 1, LARGEST)
    assert risk.expected == pytest.approx(joint[sums != cut].sum(), abs=1e-12)
    assert risk.loss == pytest.approx(abs((joint * (sums - cut)).sum()) / 1000, abs=1e-9)


def _predicted(weights: Any, counts: list[int] | None) -> SaturationRisk | None:
    """Predicts for MatMul(x, weights.T), x in 0..255 with scale 1, the result seen between 0 and 1000."""
    graph, plan = _matmul(np.ascontiguousarray(weights.T).astype(np.float32))
    tensors = {"x": TensorStatistics(-0.5, 255.5, tuple(counts or ())), "y": TensorStatistics(0.0, 1000.0)}
    (found,) = predict(graph, plan, Statistics(1, tensors))
    return found


def _matmul(weights: Any) -> tuple[ir.Graph, Plan]:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(weights)])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, weights.shape[1]])]
    proto = helper.make_graph([node], "g", inputs, outputs, [numpy_helper.from_array(weights, "w")])
    model = ir.from_proto(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    plans = (
        TensorPlan("x", "uint8", (1.0,), (0,), None, ""),
        TensorPlan("w", "int8", (1.0,) * weights.shape[1], (0,) * weights.shape[1], 1, "", (-128, 127)),
    )
    return model.graph, Plan("u8s8", plans)


def test_prediction_is_the_same_before_and_after_the_plan_is_applied() -> None:
    weights = strong(12, 6).astype(np.float32)
    seen = Statistics(1, {"x": TensorStatistics(0.0, 255.0, tuple(range(256)))})
    graph, plan = _matmul(weights)
    before = predict(graph, plan, seen)
    qdq.apply(graph, plan)
    assert predict(graph, plan, seen) == before
    assert before[0].possible > 0
    assert before[0].expected is not None
    assert before[0].expected > 0


def test_signed_activations_are_the_same_and_unsigned_weights_no_concern() -> None:
    graph, plan = _matmul(strong(8, 4).astype(np.float32))
    x, w = plan.tensors
    seen = Statistics(1, {"x": TensorStatistics(0.0, 255.0, tuple(range(256)))})
    signed = TensorPlan("x", "int8", x.scale, (-128,), None, "")
    assert predict(graph, Plan("s8s8", (signed, w)), seen) == predict(graph, plan, seen)
    unsigned = TensorPlan("w", "uint8", w.scale, w.zero_point, w.axis, "")
    assert predict(graph, Plan("u8u8", (x, unsigned))) == ()


def test_what_is_said_about_it() -> None:
    risky = SaturationRisk("conv3", "Conv", 0.25, 1.97, 4, 0.021, 0.08)
    safe = SaturationRisk("conv1", "Conv", 0.0, 0.9, 0, 0.0, 0.0)
    assert told([safe]) == ""
    assert told([safe, risky]) == (
        "8-bit products can saturate without VNNI in 1 of 2 operators, most in conv3, where 0.021 of the sums of two "
        "products are expected to and a channel is off by 0.08 of the output's range"
    )
    found = hint([safe, risky])
    assert found["safe"] is False
    assert list(found["layers"]) == ["conv3"]
    assert hint([safe]) == {"safe": True, "layers": {}}


@pytest.mark.parametrize(
    ("scheme", "safe"),
    [
        ("onnxruntime-u8s8", False),
        ("onnxruntime-s8s8", False),
        ("onnxruntime-u8s7", True),
        ("onnxruntime-u8s8-pairs", True),
    ],
)
def test_a_network_predicted_safe_is_exact_and_one_predicted_unsafe_is_not(scheme: str, safe: bool) -> None:
    model, plan, statistics, x = _network(scheme)
    risks = predict(model.graph, plan, statistics)
    assert [risk.node for risk in risks] == ["first", "second", "last"]
    assert all(risk.safe for risk in risks) == safe
    qdq.apply(model.graph, plan)
    proto = ir.to_proto(model).SerializeToString()
    # With this option ONNX Runtime takes kernels for two unsigned types, which add in 32 bits.
    fast, exact = (_session(proto, {"session.x64quantprecision": mode}).run(None, {"x": x})[0] for mode in "01")
    assert np.array_equal(fast, exact) == (safe or not SATURATES)
    if not safe:
        assert any((risk.expected or 0) > 0.01 and (risk.loss or 0) > 0.01 for risk in risks)


def _session(model: bytes, entries: dict[str, str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _network(scheme: str) -> tuple[ir.Model, Plan, Statistics, Any]:
    """Two convolutions and a classifier whose weights are nearly all of one size, with its plan and inputs."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 3, 3), "w3": (5, 8 * 16)}
    weights = {
        name: (np.where(rng.random(shape) < 0.8, 1, -1) * rng.uniform(0.8, 1, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], name="last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = infer_shapes(ir.from_proto(proto))
    x = rng.uniform(0.6, 1, (20, 3, 8, 8)).astype(np.float32)
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in "abcde")
    values = dict(zip("yabcde", _session(proto.SerializeToString(), {}).run(None, {"x": x}), strict=True)) | {"x": x}
    seen = {
        name: TensorStatistics(float(v.min()), float(v.max()), tuple(np.histogram(v, 512)[0]))
        for name, v in values.items()
    }
    statistics = Statistics(20, seen)
    found = find(scheme)
    return model, describe(decide(model.graph, found), found, statistics), statistics, x


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 6), st.sampled_from([1, 2, 3]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_safe_pairs_hold_for_every_rounding_and_are_never_coarser_than_seven_bits(
    seed: int, groups: int, width: int, kernel: int, per_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    node = ir.node("Conv", [], {"group": groups})
    weights = rng.standard_t(2, (2 * groups, width + 1, kernel, kernel)).astype(np.float32)
    axis = 0 if per_channel else None
    scale = np.reshape(np.maximum(least_scale(node, weights, axis), np.abs(weights).max() * 1e-6), (-1, 1, 1, 1))
    for rounding in (np.rint, np.floor, np.ceil):
        integers = pairs(terms(node, rounding(weights / scale).astype(np.int64)))
        assert np.maximum(integers, 0).sum(-1).max() * 255 <= 32767
        assert np.minimum(integers, 0).sum(-1).min() * 255 >= -32768
    largest = np.abs(weights).max(axis=(1, 2, 3) if per_channel else None)
    assert (scale.reshape(-1) <= np.reshape(largest, -1) / 63 + 1e-12).all()


def test_depthwise_convolutions_need_no_room() -> None:
    assert least_scale(ir.node("Conv", [], {"group": 4}), np.ones((4, 1, 3, 3), np.float32), 0) == 0.0
