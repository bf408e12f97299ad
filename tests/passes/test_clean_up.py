"""Clean-up: fewer nodes, the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.opset import opset, raise_opset
from edgewright.graph.simplify import simplify
from edgewright.passes._infer import open_infer
from edgewright.testing._pass_models import CASES


def model_of(
    nodes: list[onnx.NodeProto], constants: dict[str, Any], shape: Sequence[int | str], version: int
) -> ir.Model:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def assert_same(before: ir.Model, after: ir.Model, shape: Sequence[int], tolerance: float) -> None:
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    np.testing.assert_allclose(open_infer(after)({"x": x})["y"], open_infer(before)({"x": x})["y"], atol=tolerance)


def test_batch_norm_is_folded_and_the_opset_raised() -> None:
    before = ir.from_proto(CASES[0].build())
    after = simplify(raise_opset(before, 17))
    assert opset(after) == 17
    assert "BatchNormalization" not in operators(after)
    assert operators(after)["Conv"] == 3
    assert_same(ir.from_proto(CASES[0].build()), after, CASES[0].shape, 1e-5)


def test_shape_arithmetic_becomes_a_constant() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["r"]),
        helper.make_node("Identity", ["r"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "axes": np.array([0]), "rest": np.array([-1])}
    build = lambda: model_of(nodes, constants, (2, 3, 4), 17)  # noqa: E731
    after = simplify(build())
    assert operators(after) == {"Reshape": 1}
    assert_same(build(), after, (2, 3, 4), 0)


def focus(order: Sequence[tuple[int, int]] = ((0, 0), (1, 0), (0, 1), (1, 1))) -> ir.Model:
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "end": np.array([2**31 - 1]),
        "two": np.array([2]),
        "rows": np.array([2]),
        "columns": np.array([3]),
        "o0": np.array([0]),
        "o1": np.array([1]),
        "w": rng.standard_normal((5, 12, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
    }
    nodes = []
    for i, (row, column) in enumerate(order):
        nodes.append(helper.make_node("Slice", ["x", f"o{row}", "end", "rows", "two"], [f"r{i}"]))
        nodes.append(helper.make_node("Slice", [f"r{i}", f"o{column}", "end", "columns", "two"], [f"p{i}"]))
    nodes.append(helper.make_node("Concat", [f"p{i}" for i in range(len(order))], ["j"], axis=1))
    nodes.append(helper.make_node("Conv", ["j", "w", "b"], ["y"], pads=[1, 1, 1, 1]))
    return model_of(nodes, constants, (1, 3, 16, 12), 11)


@pytest.mark.parametrize("order", [((0, 0), (1, 0), (0, 1), (1, 1)), ((1, 1), (0, 1), (1, 0), (0, 0))])
def test_a_space_to_depth_stem_becomes_one_strided_convolution(order: Sequence[tuple[int, int]]) -> None:
    after = simplify(raise_opset(focus(order), 17))
    assert operators(after) == {"Conv": 1}
    assert_same(focus(order), after, (1, 3, 16, 12), 2e-5)


def test_a_stem_that_takes_one_phase_twice_is_left_alone() -> None:
    order = ((0, 0), (1, 0), (1, 0), (1, 1))
    after = simplify(raise_opset(focus(order), 17))
    assert operators(after)["Concat"] == 1
    assert_same(focus(order), after, (1, 3, 16, 12), 2e-5)


def pyramid(strides: int = 1) -> ir.Model:
    sizes = (5, 9, 13)
    nodes = [
        helper.make_node("MaxPool", ["x"], [f"p{k}"], kernel_shape=[k, k], pads=[k // 2] * 4, strides=[strides] * 2)
        for k in sizes
    ]
    nodes.append(helper.make_node("Concat", [f"p{k}" for k in sizes], ["y"], axis=1))
    return model_of(nodes, {}, (1, 2, 20, 17), 17)


def test_parallel_max_pools_are_computed_one_from_another_exactly() -> None:
    after = simplify(pyramid())
    kernels = [tuple(n.attributes.get_ints("kernel_shape") or ()) for n in after.graph if n.op_type == "MaxPool"]
    assert kernels == [(5, 5)] * 3
    assert_same(pyramid(), after, (1, 2, 20, 17), 0)


def test_strided_max_pools_are_left_alone() -> None:
    after = simplify(pyramid(strides=2))
    kernels = {tuple(n.attributes.get_ints("kernel_shape") or ()) for n in after.graph if n.op_type == "MaxPool"}
    assert kernels == {(5, 5), (9, 9), (13, 13)}
    assert_same(pyramid(strides=2), after, (1, 2, 20, 17), 0)


def test_quantisers_survive() -> None:
    after = simplify(ir.from_proto(CASES[2].build()))
    assert operators(after) == operators(ir.from_proto(CASES[2].build()))


def head(*, second_use: bool = False, last: bool = False) -> ir.Model:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["x", "flat"], ["a"]),
        helper.make_node("Reshape", ["half", "flat"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["joined"], axis=2),
        helper.make_node("Transpose", ["joined"], ["y" if last else "turned"], perm=[0, 2, 1]),
        helper.make_node("ReduceSum", ["joined"], ["sum"]) if second_use else None,
        None if last else helper.make_node("Add", ["turned", "sum" if second_use else "turned"], ["y"]),
    ]
    return model_of([n for n in nodes if n is not None], {"flat": np.array([1, 3, -1])}, (1, 3, 8, 8), 17)


@pytest.mark.parametrize("last", [True, False])
def test_maps_are_turned_before_a_head_joins_them(last: bool) -> None:
    after = simplify(head(last=last))
    kinds = [node.op_type for node in after.graph]
    assert kinds.count("Transpose") == 2
    assert kinds.index("Transpose") < kinds.index("Reshape") < kinds.index("Concat")
    assert next(n for n in after.graph if n.op_type == "Concat").attributes.get_int("axis") == 1
    assert [value.name for value in after.graph.outputs] == ["y"]
    assert_same(head(last=last), after, (1, 3, 8, 8), 0.0)


def test_a_head_read_elsewhere_stays_as_it_is() -> None:
    after = simplify(head(second_use=True))
    assert operators(after)["Transpose"] == 1


def test_a_size_declared_for_the_exporters_sample_is_not_folded_in() -> None:
    """PyTorch's tracing exporter declares y as [2, 12] although the batch of x is free."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Mod", ["last", "rank"], ["end"]),
        helper.make_node("Slice", ["s", "zero", "end"], ["batch_size"]),
        helper.make_node("Concat", ["batch_size", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["r", "to"], ["y"]),
    ]
    constants = {
        "last": np.asarray([-2]),
        "rank": np.asarray([3]),
        "zero": np.asarray([0]),
        "rest": np.asarray([12]),
    }
    before = model_of(nodes, constants, ("batch", 4, 3), 17)
    before.graph.outputs[0].shape = ir.Shape([2, 12])
    after = simplify(before.clone())
    assert [str(axis) for axis in after.graph.outputs[0].shape or ()] == ["batch", "12"]
    for batch in (1, 3):
        assert_same(before, after, (batch, 4, 3), 0)
