"""What is repaired after tf2onnx computes the same as before, in ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.sources import _tf_operators as repairs
from edgewright.sources._verify import onnxruntime_evaluator

RNG = np.random.default_rng(3)
Array = NDArray[np.float32]


def model(nodes: list[onnx.NodeProto], constants: dict[str, Array], shape: tuple[int, ...], rank: int) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return ir.from_proto(found)


def compute(built: ir.Model, x: Array, folder: Path) -> Array:
    path = folder / "model.onnx"
    ir.save(built, path)
    onnx.checker.check_model(str(path), full_check=True)
    return np.asarray(onnxruntime_evaluator(path)({"x": x})["y"])


def ops(built: ir.Model) -> list[str]:
    return [node.op_type for node in built.graph]


def test_erfc_is_written_with_erf(tmp_path: Path) -> None:
    built = model([helper.make_node("Erfc", ["x"], ["y"], name="e")], {}, (7,), 1)
    assert repairs.expand_erfc(built.graph) == 1
    assert ops(built) == ["Erf", "Sub"]
    x = np.linspace(-4, 4, 7).astype(np.float32)
    np.testing.assert_allclose(compute(built, x, tmp_path), [math.erfc(v) for v in x], atol=3e-7)


def test_gelu_comes_out_as_runtimes_know_it(tmp_path: Path) -> None:
    """TensorFlow writes 0.5 x erfc(-x sqrt(1/2))."""
    half, root = np.float32(0.5), np.float32(math.sqrt(0.5))
    nodes = [
        helper.make_node("Mul", ["half", "x"], ["h"]),
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Mul", ["n", "root"], ["m"]),
        helper.make_node("Erfc", ["m"], ["e"]),
        helper.make_node("Mul", ["h", "e"], ["y"]),
    ]
    built = model(nodes, {"half": np.array(half), "root": np.array(root)}, (9,), 1)
    repairs.expand_erfc(built.graph)
    assert ops(built)[-4:] == ["Mul", "Erf", "Add", "Mul"]
    x = np.linspace(-4, 4, 9).astype(np.float32)
    expected = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]
    np.testing.assert_allclose(compute(built, x, tmp_path), expected, atol=1e-6)


def scaled(groups: int, steps: list[tuple[str, Array]], *, bias: bool) -> tuple[ir.Model, Array]:
    weights = RNG.standard_normal((6, 6 // groups, 3, 3)).astype(np.float32)
    constants = {"w": weights, **({"b": RNG.standard_normal(6).astype(np.float32)} if bias else {})}
    nodes = [helper.make_node("Conv", ["x", "w", *(["b"] if bias else [])], ["v0"], name="conv", group=groups)]
    for index, (op, value) in enumerate(steps):
        constants[f"c{index}"] = value
        pair = [f"v{index}", f"c{index}"] if index % 2 else [f"c{index}", f"v{index}"]
        nodes.append(helper.make_node(op, pair, [f"v{index + 1}"], name=f"n{index}"))
    nodes.append(helper.make_node("Relu", [f"v{len(steps)}"], ["y"], name="relu"))
    return model(nodes, constants, (2, 6, 8, 8), 4), RNG.standard_normal((2, 6, 8, 8)).astype(np.float32)


def per_channel() -> Array:
    return RNG.uniform(0.5, 2, (1, 6, 1, 1)).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["Mul", "Add"]), min_size=1, max_size=4),
    groups=st.sampled_from([1, 2, 6]),
    bias=st.booleans(),
    single=st.booleans(),
)
def test_scales_go_into_the_convolution(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], groups: int, bias: bool, single: bool
) -> None:
    folder = tmp_path_factory.mktemp("scales")
    value: Callable[[], Array] = (lambda: np.full((), 1.5, np.float32)) if single else per_channel
    built, x = scaled(groups, [(kind, value()) for kind in kinds], bias=bias)
    expected = compute(built, x, folder)
    assert repairs.fold_scales(built.graph) == len(kinds)
    assert ops(built) == ["Conv", "Relu"]
    assert len(built.graph.initializers) == 2, "what is not read any more is gone"
    np.testing.assert_allclose(compute(built, x, folder), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(6, 6), (1, 1, 6, 6), (2, 6, 1, 1), (1, 6, 6, 6), (6,)])
def test_what_is_not_per_channel_stays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    built, x = scaled(1, [("Mul", RNG.uniform(0.5, 2, shape).astype(np.float32))], bias=False)
    expected = compute(built, x, tmp_path)
    assert repairs.fold_scales(built.graph) == 0
    np.testing.assert_array_equal(compute(built, x, tmp_path), expected)


def test_a_convolution_that_others_read_too_stays() -> None:
    built, _ = scaled(1, [("Mul", per_channel())], bias=False)
    conv = built.graph[0]
    built.graph.append(ir.node("Relu", [conv.outputs[0]], name="other"))
    assert repairs.fold_scales(built.graph) == 0


@pytest.mark.parametrize(("fill", "dropped"), [(0.0, 2), (0.25, 0)])
def test_zero_states_are_left_out(tmp_path: Path, fill: float, dropped: int) -> None:
    weights = {
        "w": RNG.standard_normal((1, 16, 3)).astype(np.float32),
        "r": RNG.standard_normal((1, 16, 4)).astype(np.float32),
        "fill": np.full((1, 1), fill, np.float32),
        "first": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Constant", [], ["wide"], value_ints=[2, 4]),
        helper.make_node("Expand", ["fill", "wide"], ["state"]),
        helper.make_node("Unsqueeze", ["state", "first"], ["h"]),
        helper.make_node("LSTM", ["x", "w", "r", "", "", "h", "h"], ["y"], hidden_size=4, name="lstm"),
    ]
    built = model(nodes, weights, (5, 2, 3), 4)
    x = RNG.standard_normal((5, 2, 3)).astype(np.float32)
    expected = compute(built, x, tmp_path)
    assert repairs.drop_zero_states(built.graph) == dropped
    np.testing.assert_array_equal(compute(built, x, tmp_path), expected)
