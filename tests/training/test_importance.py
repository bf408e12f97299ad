"""Importance by gradients is what removing a channel really does, to first order."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper

from edgewright.graph.pruning import find_groups, prepare
from edgewright.graph.pruning.branches import smaller
from edgewright.training.examples import Examples
from edgewright.training.importance import movement, taylor


def _linear() -> ir.Model:
    """Two matrices with nothing between: first order is exact."""
    rng = np.random.default_rng(0)
    held = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("w1", (5, 8)), ("b1", (8,)), ("w2", (8, 3)))
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], "second"),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "linear", given, outputs, held)
    return prepare(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)))


def _examples(count: int) -> Examples:
    x = torch.randn(count, 5, generator=torch.Generator().manual_seed(1))
    return Examples((x,), None, [None] * count, [{}] * count, root=None)  # type: ignore[arg-type]


def test_importance_is_how_far_the_outputs_move(context: Any) -> None:
    model = _linear()
    (group,) = find_groups(model)
    examples = _examples(600)
    found = taylor(model, (group,), examples, 1, context)[group.name]
    others = {channel: [c for c in range(group.size) if c != channel] for channel in range(group.size)}
    variants = {str(channel): partial(smaller, model, {group.name: kept}) for channel, kept in others.items()}
    moved = movement(model, variants, examples, 200, context)
    np.testing.assert_allclose(found, [moved[str(channel)] for channel in range(group.size)], rtol=0.25)
    assert context.notes[-1][0] == 1.0


def test_the_same_seed_gives_the_same_importance(context: Any) -> None:
    model = _linear()
    groups = find_groups(model)
    one, two = (taylor(model, groups, _examples(32), 8, context)[groups[0].name] for _ in range(2))
    assert np.array_equal(one, two)
    assert (one > 0).all()
