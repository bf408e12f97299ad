"""Batch norm put back while a network trains: nothing changes but how it learns, and nothing of it is left."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, fx

from edgewright.graph import bridge
from edgewright.training.relative import relative_steps
from edgewright.training.renormalised import renormalised


def _model() -> ir.Model:
    """A convolution whose channels differ a thousandfold, a depthwise one, one without bias, one with a batch norm."""
    rng = np.random.default_rng(0)
    weights = {
        "stem.w": rng.normal(size=(4, 2, 3, 3)) * np.array([0.01, 1.0, 10.0, 0.0])[:, None, None, None],
        "stem.b": rng.normal(size=4) * 5,
        "deep.w": rng.normal(size=(4, 1, 3, 3)),
        "deep.b": rng.normal(size=4),
        "bare.w": rng.normal(size=(3, 4, 1, 1)),
        "last.w": rng.normal(size=(2, 3, 1, 1)),
        "last.b": rng.normal(size=2),
    }
    norm = {"scale": [1, 2], "offset": [0, 1], "mean": [1, 0], "variance": [2, 3]}
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "deep.w", "deep.b"], ["c"], "deep", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "bare.w"], ["d"], "bare"),
        helper.make_node("Conv", ["d", "last.w", "last.b"], ["e"], "last"),
        helper.make_node("BatchNormalization", ["e", *norm], ["y"], "norm"),
    ]
    stored = {**weights, **norm}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in stored.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def _opened() -> tuple[fx.GraphModule, Tensor]:
    from edgewright.training.networks import open_network

    samples = torch.randn(40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    return open_network(_model()).eval(), samples


def _given(network: fx.GraphModule, samples: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(samples)[0]  # type: ignore[no-any-return]


def test_what_a_network_computes_stays_and_so_do_its_names() -> None:
    network, samples = _opened()
    names, before = list(network.state_dict()), _given(network, samples)
    with renormalised(network, [samples]) as count:
        assert count == 2, "one has no bias, one has a batch norm"
        torch.testing.assert_close(_given(network, samples), before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(_given(network, samples), before, rtol=1e-4, atol=1e-4)
    assert list(network.state_dict()) == names


def test_what_was_learnt_is_folded_and_comes_back_to_onnx() -> None:
    network, samples = _opened()
    before = _given(network, samples)
    with renormalised(network, [samples]), relative_steps(network):
        optimiser = torch.optim.Adam(network.parameters(), lr=0.05)
        for _ in range(3):
            network.train()
            optimiser.zero_grad()
            network(samples)[0].square().mean().backward()
            optimiser.step()
        trained = _given(network, samples)
    assert (trained - before).abs().max() > 0.1
    torch.testing.assert_close(_given(network, samples), trained, rtol=1e-4, atol=1e-4)
    model = _model()
    bridge.write_back(network, model)
    (again,) = bridge.run(bridge.to_torch(model), {"x": samples.numpy()}).values()
    np.testing.assert_allclose(again, trained.numpy(), rtol=1e-3, atol=1e-3)


def test_while_it_trains_the_batch_decides() -> None:
    network, samples = _opened()
    with renormalised(network, [samples]), torch.no_grad():
        network.train()
        moved = network(samples[:8] + 3.0)[0]
        network.eval()
        assert (network(samples[:8] + 3.0)[0] - moved).abs().max() > 0.01


def test_frozen_weights_are_left_alone() -> None:
    network, samples = _opened()
    network.requires_grad_(False)
    with renormalised(network, [samples]) as count:
        assert count == 0
