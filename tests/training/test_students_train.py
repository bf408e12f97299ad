"""Exported students train on the bridge: every weight gets a gradient, whatever batch the teacher was fixed to."""

from __future__ import annotations

import pytest
import torch

from edgewright.core.tensors import TensorSpec
from edgewright.graph.bridge import to_torch
from edgewright.graph.load import tensor_specs
from edgewright.training.students.catalogue import build, find
from edgewright.training.students.interface import Interface
from edgewright.training.students.written import exported

SPEECH = Interface(
    (TensorSpec("clip", "float32", (1, 20, 6, 1)),), (TensorSpec("words", "float32", (1, 4)),), "Softmax"
)
TEXT = Interface((TensorSpec("ids", "int64", ("n", 7)),), (TensorSpec("intent", "float32", ("n", 3)),), "", 30, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "between"), [("crnn-0.25", SPEECH), ("tiny-transformer-0.25", TEXT)], ids=str)
def test_every_weight_learns(name: str, between: Interface) -> None:
    network = build(find(name), between)
    model = exported(network, between, name)
    assert tensor_specs(model) == (between.inputs, between.outputs)
    bridged = to_torch(model)
    shape = [5, *(int(size) for size in between.inputs[0].shape[1:])]
    x = torch.randint(1, 30, shape) if between is TEXT else torch.randn(shape)
    (found,) = bridged(x)
    assert torch.allclose(found, network(x), atol=1e-5)
    (found * torch.randn_like(found)).sum().backward()
    still = [key for key, value in bridged.named_parameters() if value.grad is None or not value.grad.abs().max() > 0]
    assert not [key for key in still if "position" not in key], still
