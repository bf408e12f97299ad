"""Sizes are computed while a model is converted; the batch stays open, whatever the model says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.bridge import run, to_torch
from edgewright.graph.bridge.folding import Folding
from edgewright.graph.bridge.operators.shape import shape

value = helper.make_tensor_value_info


def integers(name: str, *numbers: int, scalar: bool = False) -> Any:
    return numpy_helper.from_array(np.array(numbers[0] if scalar else numbers, np.int64), name)


def heads(batch: int | str) -> Any:
    """[batch, 6, 8] -> split into two heads as a tracing exporter writes it, all sizes computed."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Gather", ["s", "one"], ["t"]),
        helper.make_node("Gather", ["s", "two"], ["c"]),
        helper.make_node("Div", ["c", "heads"], ["each"]),
        *(helper.make_node("Unsqueeze", [name, "front"], [f"{name}_list"]) for name in ("n", "t", "each")),
        helper.make_node("Concat", ["n_list", "t_list", "heads_list", "each_list"], ["split"], axis=0),
        helper.make_node("Reshape", ["x", "split"], ["h"]),
        helper.make_node("Cast", ["each"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["real"], ["root"]),
        helper.make_node("Div", ["h", "root"], ["q"]),
        helper.make_node("Slice", ["s", "front", "ends"], ["most"]),
        helper.make_node("Concat", ["most", "c_one"], ["last"], axis=0),
        helper.make_node("Unsqueeze", ["c", "front"], ["c_one"]),
        helper.make_node("Reshape", ["q", "last"], ["y"]),
    ]
    nodes[-3], nodes[-2] = nodes[-2], nodes[-3]
    weights = [integers("zero", 0, scalar=True), integers("one", 1, scalar=True), integers("two", 2, scalar=True)]
    weights += [integers("heads", 2, scalar=True), integers("heads_list", 2), integers("front", 0), integers("ends", 2)]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [batch, 6, 8])], [value("y", 1, [batch, 6, 8])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize("declared", ["n", 1])
def test_no_size_is_computed_in_a_step(declared: int | str) -> None:
    module = to_torch(ir.from_proto(heads(declared)))
    calls = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert shape not in calls
    assert len(calls) == 3, "two times Reshape, and the division"
    assert [node.args[1] for node in module.graph.nodes if len(node.args) > 1 and isinstance(node.args[1], list)] == [
        [-1, 6, 2, 4],
        [-1, 6, 8],
    ]
    session = onnxruntime.InferenceSession(heads("n").SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 6, 8)).astype(np.float32)
        np.testing.assert_allclose(run(module, {"x": x})["y"], session.run(None, {"x": x})[0], rtol=1e-6)


def test_sizes_that_are_open_are_computed_when_the_model_runs() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("Add", ["x", "ones"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", "t"])], [value("y", 1, ["n", "t"])])
    module = to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    for size in ((2, 3), (4, 1)):
        assert torch.equal(module(torch.zeros(size))[0], torch.ones(size))


def test_what_training_changes_is_not_computed_in_advance() -> None:
    """A product of two stored weights, one of them under a scalar, is computed in every step."""
    nodes = [
        helper.make_node("Mul", ["w", "half"], ["v"]),
        helper.make_node("Mul", ["half", "half"], ["quarter"]),
        helper.make_node("Mul", ["x", "v"], ["z"]),
        helper.make_node("Mul", ["z", "quarter"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.array([2.0, 4.0], np.float32), "w"),
               numpy_helper.from_array(np.array(0.5, np.float32), "half")]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2])], [value("y", 1, [2])], weights)
    module = to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    assert [name for name, _ in module.named_parameters()] == ["w"]
    (y,) = module(torch.ones(2))
    y.sum().backward()
    assert module.w.grad.tolist() == [0.125, 0.125]
    assert set(module.meta["initialisers"]) == {"w", "half"}


def test_constants_move_with_the_module() -> None:
    """What was computed in advance is a buffer: it follows `.to()`, and `state_dict` and copies keep it."""
    nodes = [
        helper.make_node("Range", ["zero", "four", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "real"], ["y"]),
    ]
    weights = [integers("zero", 0, scalar=True), integers("four", 4, scalar=True), integers("one", 1, scalar=True)]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 4])], [value("y", 1, ["n", 4])], weights)
    module = to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    assert dict(module.named_buffers())["real"].tolist() == [0, 1, 2, 3]
    assert next(module.to("meta").buffers()).device.type == "meta"


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), min_size=1, max_size=5), st.data())
def test_lists_of_sizes_are_taken_apart_as_onnx_does(sizes: list[int | None], data: st.DataObject) -> None:
    """Gather and Slice of a half-known shape give what they would give, where that is known."""
    first = data.draw(st.integers(-6, 6))
    last = data.draw(st.integers(-6, 6))
    place = data.draw(st.integers(-len(sizes), len(sizes) - 1))
    x = ir.Value(name="x")
    made = ir.node("Shape", [x])
    constants = {n: ir.Value(name=n) for n in ("place", "first", "last")}
    arrays = {"place": np.array(place), "first": np.array([first]), "last": np.array([last])}
    folding = Folding({"x": sizes}, lambda v: arrays.get(str(v.name)), lambda node, given: None)
    picked = ir.node("Gather", [made.outputs[0], constants["place"]])
    cut = ir.node("Slice", [made.outputs[0], constants["first"], constants["last"]])
    assert folding.visit(made) == (None not in sizes)
    assert folding.visit(picked) == (sizes[place] is not None)
    assert folding.visit(cut) == (None not in sizes[first:last])
    if sizes[place] is not None:
        found = folding.array(picked.outputs[0])
        assert found is not None
        assert found.shape == ()
        assert found == sizes[place]
    target = folding.reshaped(made.outputs[0])
    if target is not None:
        assert [None if size == -1 else size for size in target] == sizes
        assert target.count(-1) == 1
