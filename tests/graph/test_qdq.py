"""Apply a plan, and read it back."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.core.codec import decode
from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.opset import raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.qdq import apply, fold_stored_weights, is_quantised, read_plan
from edgewright.graph.simplify import simplify
from edgewright.graph.statistics import gather
from edgewright.passes._infer import open_infer
from edgewright.testing._pass_models import CASES
from edgewright.testing.passes import SCHEME

INTEGER = decode(Scheme, SCHEME, "test")


def planned() -> tuple[ir.Model, Plan]:
    case = CASES[0]
    model = simplify(raise_opset(ir.from_proto(case.build()), 17))
    statistics = gather(open_infer, model, [([i], f) for i, f in enumerate(case.feeds())], bins=0)
    return model, describe(decide(model.graph, INTEGER), INTEGER, statistics)


def test_the_plan_read_back_is_the_plan_applied() -> None:
    model, plan = planned()
    apply(model.graph, plan)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert is_quantised(model.graph)
    found = {t.tensor.split("/")[0]: t for t in read_plan(model.graph).tensors}
    for tensor in plan.tensors:
        got = found[tensor.tensor]
        assert (got.dtype, got.scale, got.zero_point, got.axis) == (
            tensor.dtype,
            tensor.scale,
            tensor.zero_point,
            tensor.axis,
        )


def test_graph_outputs_keep_their_names_and_no_float_twin_is_left() -> None:
    model, plan = planned()
    apply(model.graph, plan)
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert model.graph.outputs[0].producer() is not None
    assert "w3" not in model.graph.initializers
    assert all(node.op_type in ("QuantizeLinear",) for node in model.graph if "x" in [v.name for v in node.inputs if v])


def test_folding_stored_weights_restores_a_float_model() -> None:
    model = ir.from_proto(CASES[2].build())
    feeds = CASES[2].feeds(2)
    before = [open_infer(model)(f)["y"] for f in feeds]
    assert fold_stored_weights(model.graph) == 1
    assert [n.op_type for n in model.graph] == ["QuantizeLinear", "DequantizeLinear", "Conv"]
    for feed, expected in zip(feeds, before, strict=True):
        np.testing.assert_allclose(open_infer(model)(feed)["y"], expected, atol=1e-5)


def test_a_plan_for_another_model_is_refused() -> None:
    model, _ = planned()
    with pytest.raises(ConfigError, match="which the graph lacks"):
        apply(model.graph, Plan("s", (TensorPlan("nobody", "uint8", (1.0,), (0,), None, "test"),)))
