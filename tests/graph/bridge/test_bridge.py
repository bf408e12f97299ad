"""The bridge as its users see it: names, sharing, parts, the way back, and what it refuses."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgewright.errors import SourceError, ToolchainMissing
from edgewright.graph import bridge
from edgewright.graph.bridge import run, subgraph, to_torch, write_back
from edgewright.graph.bridge.paths import attach, tensor_at

value = helper.make_tensor_value_info


@pytest.fixture
def model(conv_proto: onnx.ModelProto) -> ir.Model:
    return ir.from_proto(conv_proto)


def image(batch: int) -> Any:
    return np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)


def test_initialisers_are_parameters_of_the_same_name(model: ir.Model) -> None:
    module = to_torch(model)
    assert {name for name, _ in module.named_parameters()} == {"w", "b", "v", "u"}
    assert module.meta["initialisers"] == {name: name for name in "wbvu"}
    assert [module.meta["inputs"], module.meta["outputs"]] == [("x",), ("y",)]
    assert isinstance(module, torch.fx.GraphModule)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_batch_stays_open(model: ir.Model, conv_proto: onnx.ModelProto, batch: int) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(conv_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": image(batch)})
    np.testing.assert_allclose(run(to_torch(model), {"x": image(batch)})["y"], expected, rtol=1e-4, atol=1e-5)


def test_a_part_is_run_from_given_tensors_and_shares_its_weights(model: ir.Model) -> None:
    whole = to_torch(model)
    first, last = subgraph(whole, ["x"], ["r", "c"]), subgraph(whole, ["r"], ["y"])
    assert [sorted(dict(m.named_parameters())) for m in (first, last)] == [["b", "w"], ["u", "v"]]
    x = torch.from_numpy(image(2))
    relu, conv = first(x)
    assert torch.equal(relu, conv.relu())
    assert torch.equal(last(relu)[0], whole(x)[0])
    with torch.no_grad():
        first.w.zero_()
    assert not whole.w.any()


def test_a_part_of_the_onnx_model_is_the_same_part(model: ir.Model) -> None:
    x = torch.from_numpy(image(2))
    converted = to_torch(model, inputs=["x"], outputs=["m"])
    assert sorted(converted.meta["initialisers"]) == ["b", "w"]
    assert torch.equal(converted(x)[0], subgraph(to_torch(model), ["x"], ["m"])(x)[0])


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [(["r"], ["c"], "x is missing"), (["x"], ["nothing"], "'nothing'"), (["nothing"], ["y"], "'nothing'")],
)
def test_parts_that_do_not_exist_are_named(model: ir.Model, inputs: list[str], outputs: list[str], said: str) -> None:
    whole = to_torch(model)
    with pytest.raises(SourceError, match=said) as one:
        subgraph(whole, inputs, outputs)
    with pytest.raises(SourceError, match=said):
        to_torch(model, inputs=inputs, outputs=outputs)
    assert one.value.hint


def test_parameters_are_written_back_by_name(model: ir.Model) -> None:
    module = to_torch(model)
    assert write_back(module, model) == ()
    with torch.no_grad():
        module.w.mul_(2)
    assert write_back(subgraph(module, ["x"], ["r"]), model) == ("w",)
    assert write_back(module, model) == ()
    tensor = model.graph.initializers["w"].const_value
    assert tensor is not None
    np.testing.assert_array_equal(tensor.numpy(), module.w.detach().numpy())
    np.testing.assert_array_equal(run(to_torch(model), {"x": image(2)})["y"], run(module, {"x": image(2)})["y"])


def test_writing_back_into_another_model_is_refused(model: ir.Model) -> None:
    module = to_torch(model)
    other = model.clone()
    other.graph.initializers["w"].const_value = ir.tensor(np.zeros((1, 3, 3, 3), np.float32))
    with pytest.raises(SourceError, match=r"initialiser w: shape \[4, 3, 3, 3\]"):
        write_back(module, other)
    del other.graph.initializers["w"]
    with pytest.raises(SourceError, match="no initialiser 'w'"):
        write_back(module, other)


def test_channels_removed_in_pytorch_are_written_back_where_that_is_said(model: ir.Model) -> None:
    module = to_torch(model)
    keep = [0, 2, 3]
    with torch.no_grad():
        for name, axis in (("w", 0), ("b", 0), ("v", 0)):
            setattr(module, name, nn.Parameter(getattr(module, name).index_select(axis, torch.tensor(keep))))
    before = model.graph.initializers["w"].const_value
    with pytest.raises(SourceError, match="reshape=True"):
        write_back(module, model)
    assert model.graph.initializers["w"].const_value is before
    assert set(write_back(module, model, reshape=True)) == {"w", "b", "v"}
    relu = next(v for node in model.graph for v in node.outputs if v.name == "r")
    assert relu.shape is not None
    assert relu.shape[1] == 3
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert torch.equal(to_torch(model)(torch.from_numpy(image(2)))[0], module(torch.from_numpy(image(2)))[0])


def test_shapes_that_contradict_the_graph_leave_it_as_it_was(model: ir.Model) -> None:
    module = to_torch(model)
    module.v = nn.Parameter(module.v[:, :3].detach())
    with pytest.raises(SourceError):
        write_back(module, model, reshape=True)
    assert model.graph.initializers["v"].shape == (4, 5)
    assert to_torch(model)(torch.from_numpy(image(1)))[0].shape[0] == 1


def test_vectors_stored_once_by_chance_become_one_for_each_layer() -> None:
    ones, table = np.ones(4, np.float32), np.arange(12, dtype=np.float32).reshape(3, 4)
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], "words"),
        helper.make_node("Identity", ["ones"], ["again"], "alias"),
        helper.make_node("LayerNormalization", ["e", "ones"], ["a"], "first"),
        helper.make_node("LayerNormalization", ["a", "again"], ["b"], "second"),
        helper.make_node("MatMul", ["b", "turned"], ["y"], "head"),
        helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
    ]
    nodes = [nodes[i] for i in (0, 1, 2, 3, 5, 4)]
    weights = [numpy_helper.from_array(ones, "ones"), numpy_helper.from_array(table, "table")]
    inputs, outputs = [value("x", TensorProto.INT64, ["n"])], [value("y", 1, ["n", 3])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    tokens = {"x": np.array([0, 2])}
    before = run(to_torch(model), tokens)["y"]
    assert set(dict(to_torch(model).named_parameters())) == {"ones", "table"}
    (added,) = bridge.untie(model)
    module = to_torch(model)
    assert set(dict(module.named_parameters())) == {"ones", "table", added.replace(".", "_")}
    np.testing.assert_array_equal(run(module, tokens)["y"], before)
    assert bridge.untie(model) == ()
    module(torch.tensor([0, 1]))[0].square().sum().backward()
    assert module.table.grad is not None, "the tied embedding is one parameter with the gradients of both uses"


def test_layers_that_share_weights_share_their_bias_still() -> None:
    weights = {"w": np.ones((3, 3, 1, 1)), "b": np.zeros(3), "v": np.zeros((3, 3, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["p"], "one"),
        helper.make_node("Conv", ["p", "w", "b"], ["q"], "two"),
        helper.make_node("Conv", ["q", "v", "b"], ["y"], "three"),
    ]
    stored = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [1, 3, 2, 2])], [value("y", 1, None)], stored)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert bridge.untie(model) == ("b/three",)
    names = {node.name: str(node.inputs[2].name) for node in model.graph if node.inputs[2] is not None}
    assert names == {"one": "b", "two": "b", "three": "b/three"}


def test_a_copy_keeps_its_names(model: ir.Model) -> None:
    module = copy.deepcopy(to_torch(model))
    assert subgraph(module, ["x"], ["r"])(torch.from_numpy(image(1)))[0].shape == (1, 4, 4, 4)


@pytest.mark.slow
def test_the_module_can_be_exported_to_aten(model: ir.Model) -> None:
    """What converters from PyTorch begin with."""
    batch = torch.export.Dim("batch", min=2, max=64)
    x = torch.from_numpy(image(3))
    module = to_torch(model)
    program = torch.export.export(module, (x,), dynamic_shapes=({0: batch},))
    assert torch.allclose(program.module()(x)[0], module(x)[0])


def test_a_missing_input_is_named(model: ir.Model) -> None:
    with pytest.raises(SourceError, match="no array for input x"):
        run(to_torch(model), {})


def one(nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto] | None = None, opset: int = 17) -> ir.Model:
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n"])], [value("y", 1, None)], weights or [])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))


def test_unsupported_operators_are_named_with_their_node() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("TfIdfVectorizer", ["a"], ["b"], "words"),
        helper.make_node("Fancy", ["b"], ["y"], "house", domain="com.acme"),
    ]
    with pytest.raises(
        SourceError, match=r"'words' \(TfIdfVectorizer, opset 17\); node 'house' \(com.acme.Fancy"
    ) as error:
        to_torch(one(nodes))
    assert "claims()" in error.value.hint


def test_unsupported_operators_in_a_branch_are_found() -> None:
    inner = helper.make_graph([helper.make_node("Magic", ["x"], ["z"], "deep")], "b", [], [value("z", 1, None)])
    test = numpy_helper.from_array(np.array(True), "c")
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    with pytest.raises(SourceError, match="'deep'"):
        to_torch(one([node], [test]))


def test_unknown_attributes_and_strings_are_refused() -> None:
    with pytest.raises(SourceError, match="attribute slope"):
        to_torch(one([helper.make_node("Relu", ["x"], ["y"], slope=1.0)]))
    with pytest.raises(SourceError, match="value_string"):
        to_torch(one([helper.make_node("Constant", [], ["y"], value_string="a")]))
    words = helper.make_tensor("t", TensorProto.STRING, [1], [b"a"])
    with pytest.raises(SourceError, match="string"):
        to_torch(one([helper.make_node("Identity", ["t"], ["y"])], [words]))


def test_functions_of_the_model_are_inlined() -> None:
    inner = helper.make_node("Mul", ["a", "a"], ["b"])
    square = helper.make_function("own", "Square", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)])
    graph = helper.make_graph(
        [helper.make_node("Square", ["x"], ["y"], domain="own")], "g", [value("x", 1, [2])], [value("y", 1, [2])]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, functions=[square])
    assert run(to_torch(ir.from_proto(proto)), {"x": np.array([2, 3], np.float32)})["y"].tolist() == [4, 9]


def test_branches_share_and_write_back_their_weights() -> None:
    def branch(name: str, factor: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.array([factor], np.float32), name)
        node = helper.make_node("Mul", ["x", name], [f"{name}_y"])
        return helper.make_graph([node], name, [], [value(f"{name}_y", 1, None)], [weight])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("up", 2), else_branch=branch("down", 3)),
    ]
    model = one(nodes, [numpy_helper.from_array(np.array(0, np.float32), "zero")])
    module = to_torch(model)
    x = torch.tensor([1.0])
    assert [module(x)[0].item(), module(-x)[0].item()] == [2, -3]
    with torch.no_grad():
        dict(module.named_parameters())["If.else_branch.down"].fill_(5)
    assert write_back(module, model) == ("down",)
    assert to_torch(model)(-x)[0].item() == -5


def test_names_become_paths_and_clashes_are_resolved() -> None:
    root = nn.Module()
    names = ["conv.weight", "conv", "a..b", "type", "onnx::Conv_1", "x.training.w", ".start", "end.", "conv.weight.q"]
    paths = [attach(root, name, torch.tensor([float(i)]), trainable=True) for i, name in enumerate(names)]
    assert paths[0] == "conv.weight"
    assert paths[4] == "onnx::Conv_1"
    assert len(set(paths)) == len(names)
    assert [tensor_at(root, path).item() for path in paths] == list(range(len(names)))
    assert sorted(dict(root.named_parameters())) == sorted(paths)


@pytest.mark.parametrize("name", ["0", "in.put", "class", "self", "a:0"])
def test_inputs_may_have_any_name(name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", [name], ["y"])], "g", [value(name, 1, [2])], [value("y", 1, [2])]
    )
    module = to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
    assert run(module, {name: np.array([-1, 2], np.float32)})["y"].tolist() == [0, 2]


def test_what_training_must_not_change_is_a_buffer() -> None:
    rng = np.random.default_rng(0)
    weights = [numpy_helper.from_array(rng.random(2).astype(np.float32) + 0.5, n) for n in ("s", "b", "m", "v")]
    weights.append(numpy_helper.from_array(np.array(0.5, np.float32), "middle"))
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Mul", ["n", "middle"], ["y"]),
    ]
    module = to_torch(one(nodes, weights))
    assert {n for n, _ in module.named_parameters()} == {"s", "b"}
    assert {n for n, _ in module.named_buffers()} == {"m", "v", "middle"}


def test_sequences_and_norms_without_a_node_test() -> None:
    nodes = [
        helper.make_node("SplitToSequence", ["x", "two"], ["s"]),
        helper.make_node("SequenceErase", ["s", "zero"], ["t"]),
        helper.make_node("ConcatFromSequence", ["t"], ["y"], axis=0),
    ]
    weights = [numpy_helper.from_array(np.array(n, np.int64), name) for n, name in ((2, "two"), (0, "zero"))]
    x = np.arange(6, dtype=np.float32)
    assert run(to_torch(one(nodes, weights)), {"x": x})["y"].tolist() == [2, 3, 4, 5]
    pool = to_torch(one([helper.make_node("GlobalLpPool", ["x"], ["y"], p=1)]))
    assert run(pool, {"x": np.array([[[1, -2.5]]], np.float32)})["y"].tolist() == [[[3.5]]]


@pytest.mark.slow
def test_nothing_but_pytorch_is_imported() -> None:
    """No other runtime computes inside; the package itself loads nothing heavy."""
    code = """
import sys
import edgewright.graph.bridge
assert not {"torch", "onnx", "onnx_ir"} & set(sys.modules)
import numpy as np, onnx, onnx_ir
from onnx import helper
from edgewright.graph import bridge
value = helper.make_tensor_value_info
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, [2])], [value("y", 1, [2])])
module = bridge.to_torch(onnx_ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))
assert bridge.run(module, {"x": np.array([-1, 1], np.float32)})["y"].tolist() == [0, 1]
assert len(bridge.claims()) > 150
others = {"onnxruntime", "openvino", "tensorflow", "ai_edge_litert", "jax", "onnx.reference", "onnxscript"}
assert not others & set(sys.modules), others & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_without_pytorch_the_install_line_is_given(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolchainMissing, match=r"edgewright\[torch\]"):
        bridge.to_torch(model)


def test_the_page_lists_what_is_claimed() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "bridge.md").read_text()
    table = page.partition("## Operators converted")[2]
    listed = re.findall(r"`(\w+)`", table)
    assert len(listed) == len(set(listed))
    assert set(listed) == bridge.claims()
