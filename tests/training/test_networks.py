"""ONNX models as networks that train: batch norm, fixed batches, weights that are shared or hidden in constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from edgewright.errors import ConfigError, SourceError
from edgewright.graph.bridge import run, subgraph, to_torch, write_back
from edgewright.training import norms
from edgewright.training.heads import logits_of, probability_of
from edgewright.training.networks import open_network, own_weights

Make = Callable[..., Any]


@pytest.mark.parametrize("opset", [7, 9, 11, 14, 15, 17, 21])
def test_batch_norm_trains_as_pytorchs_own(convolutional: Make, opset: int) -> None:
    model = convolutional(opset=opset)
    network = open_network(model)
    assert norms.has_trainable(network)
    layer = nn.BatchNorm2d(8)
    own = network.batch_norm_0
    x = torch.randn(5, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    tensors = [network.get_parameter("norm.scale"), network.get_parameter("norm.offset")]
    statistics = [network.get_buffer("norm.mean"), network.get_buffer("norm.variance")]
    for module in (layer, network):
        module.train()
    torch.testing.assert_close(own(x, *tensors, *statistics), layer(x))
    torch.testing.assert_close(statistics[0], layer.running_mean)
    torch.testing.assert_close(statistics[1], layer.running_var)
    network.eval()
    torch.testing.assert_close(own(x, *tensors, *statistics), layer.eval()(x))
    write_back(network, model)
    np.testing.assert_allclose(model.graph.initializers["norm.mean"].const_value.numpy(), layer.running_mean)


def test_in_eval_mode_it_computes_what_the_model_does(convolutional: Make) -> None:
    model = convolutional(softmax=True)
    x = np.random.default_rng(0).normal(size=(3, 2, 6, 6)).astype(np.float32)
    expected = run(to_torch(model), {"x": x})["probabilities"]
    network = open_network(model).eval()
    np.testing.assert_allclose(run(network, {"x": x})["probabilities"], expected, atol=1e-6)
    part = subgraph(network, ["x"], ["r"]).train()
    assert norms.has_trainable(part)
    part(torch.from_numpy(x))
    assert network.get_buffer("norm.mean").abs().sum() > 0


def test_statistics_inside_a_branch_stay(onnx_model: Make) -> None:
    def branch(name: str) -> Any:
        node = helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], [f"{name}_y"])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_y", 1, None)])

    node = helper.make_node("If", ["on"], ["y"], then_branch=branch("yes"), else_branch=branch("no"))
    tensors = {"s": np.ones(3), "b": np.zeros(3), "m": np.zeros(3), "v": np.ones(3), "on": np.array(True)}
    model = onnx_model([node], tensors, ["batch", 3, 4], ["batch", 3, 4])
    network = open_network(model).train()
    assert not norms.has_trainable(network)
    network(torch.randn(4, 3, 4))
    assert write_back(network, model) == ()


def test_batch_norms_that_share_tensors_get_their_own(onnx_model: Make) -> None:
    nodes = [
        helper.make_node("Identity", ["zero"], ["mean2"]),
        helper.make_node("BatchNormalization", ["x", "one", "zero", "zero", "one"], ["a"], name="first"),
        helper.make_node("BatchNormalization", ["a", "one", "zero", "mean2", "one"], ["y"], name="second"),
    ]
    model = onnx_model(nodes, {"one": np.ones(3), "zero": np.zeros(3)}, ["batch", 3, 4], ["batch", 3, 4])
    network = open_network(model).train()
    network(torch.randn(8, 3, 4) + 2)
    changed = set(write_back(network, model))
    norm = [node for node in model.graph if node.op_type == "BatchNormalization"]
    statistics = [value.name for node in norm for value in node.inputs[3:5]]
    assert changed == set(statistics)
    assert len({value.name for node in norm for value in node.inputs[1:]}) == 8


def test_weights_in_constants_are_trained(onnx_model: Make) -> None:
    value = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    nodes = [helper.make_node("Constant", [], ["w"], value=value), helper.make_node("MatMul", ["x", "w"], ["y"])]
    model = onnx_model(nodes, {}, ["batch", 4], ["batch", 3])
    network = open_network(model)
    assert [name for name, _ in network.named_parameters()] == ["w"]
    with torch.no_grad():
        network.get_parameter("w").fill_(5)
    assert write_back(network, model) == ("w",)


def test_a_batch_of_one_becomes_any(convolutional: Make) -> None:
    model = convolutional(batch=1)
    network = open_network(model).eval()
    x = torch.randn(5, 2, 6, 6)
    alone = torch.cat([to_torch(model)(x[i : i + 1])[0] for i in range(5)])
    torch.testing.assert_close(network(x)[0], alone)
    assert norms.has_trainable(network)


def squeezed(onnx_model: Make, batch: int = 1) -> ir.Model:
    """Takes the batch axis away and puts it back: nothing a larger batch could go through."""
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["m"]),
        helper.make_node("Softmax", ["m"], ["p"], axis=0),
        helper.make_node("Reshape", ["p", "back"], ["y"]),
    ]
    tensors = {
        "flat": np.array([5 * batch, 4]),
        "back": np.array([batch, 5, 3]),
        "w": np.random.default_rng(0).normal(size=(4, 3)),
    }
    model: ir.Model = onnx_model(nodes, tensors, [batch, 5, 4], [batch, 5, 3])
    return model


def test_where_only_single_samples_work_they_go_one_by_one(onnx_model: Make) -> None:
    model = squeezed(onnx_model)
    network = open_network(model)
    x = torch.randn(3, 5, 4)
    alone = torch.cat([to_torch(model)(x[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(network(x)[0], alone)
    network(x)[0].square().sum().backward()
    assert network.get_parameter("w").grad is not None
    with pytest.raises(ConfigError, match="the model takes batches of 2 only"):
        open_network(squeezed(onnx_model, batch=2))


def test_a_recurrent_model_with_stored_states_takes_any_batch(onnx_model: Make) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W": (1, 16, 3), "R": (1, 16, 4), "h": (1, 1, 4), "c": (1, 1, 4)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "W", "R", "", "", "h", "c"], ["", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "axis"], ["y"]),
    ]
    tensors = {**{name: rng.normal(size=shape) for name, shape in shapes.items()}, "axis": np.array([0])}
    model = onnx_model(nodes, tensors, [1, 6, 3], [1, 4])
    x = torch.randn(3, 6, 3)
    alone = torch.cat([to_torch(model)(x[i : i + 1])[0] for i in range(3)])
    torch.testing.assert_close(open_network(model)(x)[0], alone)


def test_what_cannot_be_converted_is_named_before_anything_is_trained(onnx_model: Make) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Mystery", ["m"], ["y"], name="strange one", domain="acme"),
    ]
    model = onnx_model(nodes, {"w": np.ones((4, 3))}, ["batch", 4], ["batch", 3])
    model.opset_imports["acme"] = 1
    with pytest.raises(SourceError, match=r"node 'strange one' \(acme\.Mystery"):
        open_network(model)


def test_weights_in_16_bits_are_refused(onnx_model: Make) -> None:
    weight = np.ones((4, 3), np.float16)
    nodes = [helper.make_node("Cast", ["w"], ["w32"], to=1), helper.make_node("MatMul", ["x", "w32"], ["y"])]
    with pytest.raises(ConfigError, match="1 weights are stored in 16 bits, w among them"):
        open_network(onnx_model(nodes, {"w": weight}, ["batch", 4], ["batch", 3]))


def test_nothing_changes_where_nothing_is_shared(convolutional: Make) -> None:
    model = convolutional()
    before = ir.to_proto(model).SerializeToString()
    own_weights(model)
    assert ir.to_proto(model).SerializeToString() == before


@pytest.mark.parametrize(
    ("ends", "logits", "kind"),
    [
        ((), "m", ""),
        (("Softmax",), "m", "Softmax"),
        (("LogSoftmax",), "m", "LogSoftmax"),
        (("Sigmoid", "Identity"), "m", "Sigmoid"),
        (("Softmax", "Relu"), "y", ""),
    ],
)
def test_logits_are_what_a_final_softmax_takes(onnx_model: Make, ends: tuple[str, ...], logits: str, kind: str) -> None:
    names = ["m", *(f"t{i}" for i in range(len(ends)))]
    names[-1] = "y" if ends else "m"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"])]
    nodes += [helper.make_node(op, [names[i]], [names[i + 1]]) for i, op in enumerate(ends)]
    model = onnx_model(nodes, {"w": np.ones((4, 3))}, ["batch", 4], ["batch", 3])
    assert logits_of(model) == (logits,)
    assert probability_of(model) == (kind,)
