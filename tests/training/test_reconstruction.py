"""Layers behind removed channels are solved anew: exactly where what is left can still say what is gone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph import bridge
from edgewright.training.reconstruction import reconstruct

KEPT = [0, 2, 3, 5]


def _network(channels: list[int], *, stride: int = 1) -> ir.Model:
    """A stem whose channels 1 and 4 repeat 0 and 2, a depthwise and a dense convolution, and a linear layer."""
    rng = np.random.default_rng(0)
    stem, offset = rng.normal(size=(6, 2, 1, 1)), rng.normal(size=6)
    stem[[1, 4]], offset[[1, 4]] = stem[[0, 2]], offset[[0, 2]]
    deep, bias = rng.normal(size=(6, 1, 3, 3)), rng.normal(size=6)
    deep[[1, 4]], bias[[1, 4]] = 2 * deep[[0, 2]], 2 * bias[[0, 2]]
    weights = {
        "stem.w": stem[channels],
        "stem.b": offset[channels],
        "deep.w": deep[channels],
        "deep.b": bias[channels],
        "body.w": rng.normal(size=(5, 6, 3, 3))[:, channels],
        "body.b": rng.normal(size=5),
        "head.w": rng.normal(size=(5, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem"),
        helper.make_node("Conv", ["a", "deep.w", "deep.b"], ["b"], "deep", group=len(channels), pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["c"], "relu"),
        helper.make_node("Conv", ["c", "body.w", "body.b"], ["d"], "body", strides=[stride, 2], pads=[0, 1, 1, 2]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "head.w"], ["y"], "head"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 9, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


def _solved(model: ir.Model, teacher: ir.Model, samples: torch.Tensor) -> tuple[dict[str, float], torch.Tensor]:
    student = bridge.to_torch(model)
    quiet = lambda fraction, note: None  # noqa: E731
    errors = reconstruct(student, bridge.to_torch(teacher), [samples], ridge=1e-9, seed=0, progress=quiet)
    with torch.no_grad():
        (given,) = student(samples)
    return errors, given


@pytest.mark.parametrize("stride", [1, 2])
def test_channels_that_others_repeat_are_not_missed(stride: int) -> None:
    teacher, student = _network(list(range(6)), stride=stride), _network(KEPT, stride=stride)
    samples = torch.randn(40, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (wanted,), (before,) = bridge.to_torch(teacher)(samples), bridge.to_torch(student)(samples)
    errors, after = _solved(student, teacher, samples)
    assert float((before - wanted).abs().max()) > 0.1
    torch.testing.assert_close(after, wanted, rtol=1e-3, atol=1e-3)
    assert errors["d"] < 1e-6


def test_a_model_that_lost_nothing_keeps_its_weights() -> None:
    model = _network(list(range(6)))
    samples = torch.randn(16, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    student = bridge.to_torch(model)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    reconstruct(student, bridge.to_torch(model), [samples], ridge=1e-3, seed=0, progress=lambda fraction, note: None)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-5)


def test_weights_that_changed_are_not_taken_for_slices() -> None:
    teacher, student = _network(list(range(6))), _network(KEPT)
    for value in student.graph.initializers.values():
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() * 1.5, name=value.name)
    samples = torch.randn(16, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    assert _solved(student, teacher, samples)[0] == {}
