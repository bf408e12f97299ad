"""Residual branches are found, left out exactly, and priced with what they hold."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.pruning import find_groups, prepare, remove
from edgewright.graph.pruning.branches import find_branches, remove_branches
from edgewright.graph.pruning.extents import layer_shapes
from edgewright.graph.shapes import bind_axes
from edgewright.passes._infer import open_infer

SIDE = 6


def residual(*, read_inside: bool = False, bias: bool = True) -> ir.Model:
    """A stem, two residual units (the second with a wider projection shortcut), pool and head."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": rng.normal(size=(4, 2, 3, 3)),
        "w1": rng.normal(size=(6, 4, 3, 3)),
        "b1": rng.normal(size=6),
        "w2": rng.normal(size=(4, 6, 3, 3)),
        "w3": rng.normal(size=(5, 4, 1, 1)),
        "w4": rng.normal(size=(5, 4, 3, 3)),
        "w5": rng.normal(size=(5, 3)),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a0"], "stem", **same),
        helper.make_node("Relu", ["a0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1", *(["b1"] if bias else [])], ["a1"], "c1", **same),
        helper.make_node("Relu", ["a1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["a2"], "c2", **same),
        helper.make_node("Add", ["a2", "r0"], ["s0"], "add0"),
        helper.make_node("Relu", ["s0"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["a3"], "shortcut", kernel_shape=[1, 1]),
        helper.make_node("Conv", ["r2", "w4"], ["a4"], "c4", **same),
        helper.make_node("Add", ["a4", "a3"], ["s1"], "add1"),
        helper.make_node("GlobalAveragePool", ["s1"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "w5"], ["y"], "head"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    if read_inside:
        outputs.append(helper.make_tensor_value_info("a1", TensorProto.FLOAT, ["batch", 6, SIDE, SIDE]))
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, SIDE, SIDE])]
    held = [
        numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in weights.items()
        if bias or name != "b1"
    ]
    graph = helper.make_graph(nodes, "residual", given, outputs, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    return prepare(ir.from_proto(proto))


def test_only_a_branch_beside_an_identity_is_one() -> None:
    (found,) = find_branches(residual())
    assert found.add == "add0"
    assert set(found.nodes) == {"c1", "relu1", "c2", "add0"}


def test_a_branch_that_is_read_elsewhere_stays() -> None:
    assert find_branches(residual(read_inside=True)) == ()


def test_leaving_a_branch_out_is_as_if_it_gave_zeros() -> None:
    model = residual()
    zeros = model.clone()
    value = zeros.graph.initializers["w2"]
    assert value.const_value is not None
    value.const_value = ir.tensor(np.zeros_like(value.const_value.numpy()), name="w2")
    left = model.clone()
    remove_branches(left, {"branch add0"})
    assert [node.op_type for node in left.graph].count("Conv") == 3
    assert [node.op_type for node in left.graph].count("Relu") == 1, "the second Relu would do nothing"
    assert not {"w1", "b1", "w2"} & set(left.graph.initializers)
    feed = {"x": np.random.default_rng(1).normal(size=(2, 2, SIDE, SIDE)).astype(np.float32)}
    np.testing.assert_allclose(open_infer(left)(feed)["y"], open_infer(zeros)(feed)["y"], rtol=1e-5, atol=1e-5)


def test_shapes_say_what_every_operator_is_at_other_sizes() -> None:
    """Held against the operators of a model from which channels really were removed."""
    model = bind_axes(residual(), {"batch": 1})
    groups = find_groups(model)
    shapes = layer_shapes(model, groups, remove)
    sizes = {group.name: max(group.size - 2, 1) for group in groups}
    smaller = model.clone()
    remove(smaller, {name: range(size) for name, size in sizes.items()})
    wanted = {shape.node: shape for shape in layer_shapes(smaller, find_groups(smaller), remove)}
    own = {group.name: group.size for group in find_groups(smaller)}
    whole = {group.name: group.size for group in groups}
    assert any(shape.macs(sizes) < shape.macs(whole) for shape in shapes)
    for shape in shapes:
        assert shape.features(sizes) == pytest.approx(wanted[shape.node].features(own)), shape.node
        assert shape.parameters(sizes) == pytest.approx(wanted[shape.node].parameters(own))


def test_operators_go_with_their_branch() -> None:
    model = bind_axes(residual(), {"batch": 1})
    shapes = {shape.node: shape for shape in layer_shapes(model, find_groups(model), remove)}
    whole = {group.name: group.size for group in find_groups(model)}
    assert shapes["c1"].branches == ("branch add0",)
    assert shapes["stem"].branches == ()
    assert shapes["c1"].macs({**whole, "branch add0": 0}) == 0
    assert shapes["c1"].macs({**whole, "branch add0": 1}) == shapes["c1"].macs(whole) > 0
