"""Decide and describe: which tensors, which numbers, which reasons."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgewright.core.codec import decode, decode_stored, encode_json
from edgewright.core.target import Plan, Scheme
from edgewright.errors import ConfigError
from edgewright.graph.opset import raise_opset
from edgewright.graph.placement import decide
from edgewright.graph.plan import describe
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.simplify import simplify
from edgewright.graph.statistics import Statistics, TensorStatistics, activations
from edgewright.graph.weights import describe_weights
from edgewright.testing._pass_models import CASES
from edgewright.testing.passes import SCHEME

INTEGER = decode(Scheme, SCHEME, "test")
INPUTS_ONLY = dataclasses.replace(
    INTEGER, name="inputs", quantized=("Conv", "Gemm"), outputs=(), bias="float32", requantize_shared=False
)


@pytest.fixture(scope="module")
def graph() -> ir.Graph:
    return simplify(raise_opset(ir.from_proto(CASES[0].build()), 17)).graph


def seen(graph: ir.Graph) -> Statistics:
    return Statistics(3, {v.name or "": TensorStatistics(-1.0, 2.0, (1, 8, 1)) for v in activations(graph)})


def quantised(graph: ir.Graph, scheme: Scheme, **config: tuple[str, ...]) -> set[str]:
    return {v.name or "" for v in decide(graph, scheme, **config).values}


def test_inputs_of_weighted_operators_and_nothing_else(graph: ir.Graph) -> None:
    assert quantised(graph, INPUTS_ONLY) == {"x", "r0", "m1", "g2"}


def test_moved_integers_are_not_rounded_twice(graph: ir.Graph) -> None:
    again = dataclasses.replace(INPUTS_ONLY, requantize_shared=True)
    assert quantised(graph, again) - quantised(graph, INPUTS_ONLY) == {"p1", "f2"}
    groups = decide(graph, again).groups
    assert groups["m1"] == groups["p1"] != groups["r0"]


def test_integer_kernels_get_their_outputs_quantised_behind_the_fused_activation(graph: ir.Graph) -> None:
    names = quantised(graph, INTEGER)
    assert {"x", "r0", "c1", "s1", "m1", "p1", "c2", "a2"} <= names
    assert "c0" not in names
    assert "n0" not in names


@pytest.mark.parametrize(
    ("selector", "dropped"),
    [("@first", {"x"}), ("@last", {"g2"}), ("@depthwise", {"r0"}), ("*", {"x", "r0", "m1", "g2"})],
)
def test_selectors_keep_operators_in_float(graph: ir.Graph, selector: str, dropped: set[str]) -> None:
    assert quantised(graph, INPUTS_ONLY) - quantised(graph, INPUTS_ONLY, keep_float=(selector,)) == dropped
    assert decide(graph, INPUTS_ONLY, (selector,)).kept_float


def test_ops_narrows_the_scheme(graph: ir.Graph) -> None:
    assert quantised(graph, INPUTS_ONLY, ops=("Gemm",)) == {"g2"}


def test_every_operator_of_the_scheme_left_in_float_has_a_reason(graph: ir.Graph) -> None:
    placement = decide(graph, INTEGER, ("@last",))
    pool = next(n for n in graph if n.op_type == "GlobalAveragePool")
    assert placement.kept_float[pool.name or ""] == "no integer operator takes its result"


def test_scales_are_shared_and_plan_survives_json(graph: ir.Graph) -> None:
    plan = describe(decide(graph, INTEGER), INTEGER, seen(graph))
    scales = {t.tensor: t for t in plan.tensors}
    assert scales["m1"].scale == scales["p1"].scale
    assert scales["s1"].scale == pytest.approx((1 / 255,))
    assert decode_stored(Plan, encode_json(plan)) == plan
    assert all(t.reason for t in plan.tensors)


def test_bias_scale_is_input_scale_times_weight_scale(graph: ir.Graph) -> None:
    plan = {t.tensor: t for t in describe(decide(graph, INTEGER), INTEGER, seen(graph)).tensors}
    gemm = next(n for n in graph if n.op_type == "Gemm")
    data, weights, bias = (plan[v.name or ""] for v in gemm.inputs if v is not None)
    product = np.float32(data.scale[0]) * np.asarray(weights.scale, np.float32)
    np.testing.assert_array_equal(np.asarray(bias.scale, np.float32), product)
    assert bias.dtype == "int32"


def test_a_bias_too_large_for_int32_widens_the_weight_scale() -> None:
    model = infer_shapes(raise_opset(ir.from_proto(CASES[0].build()), 17))
    gemm = next(n for n in model.graph if n.op_type == "Gemm")
    weights, bias = gemm.inputs[1], gemm.inputs[2]
    assert weights is not None
    assert bias is not None
    weights.const_value = ir.tensor(np.full((5, 8), 1e-9, np.float32))
    bias.const_value = ir.tensor(np.full(5, 1e3, np.float32))
    plan = {t.tensor: t for t in describe(decide(model.graph, INTEGER), INTEGER, seen(model.graph)).tensors}
    assert 1e3 / plan["b3"].scale[0] <= 2**31 - 1
    assert "widened" in plan["w3"].reason


def test_percentile_ranges_are_narrower_and_bad_names_are_refused(graph: ir.Graph) -> None:
    placement = decide(graph, INPUTS_ONLY)
    wide = describe(placement, INPUTS_ONLY, seen(graph)).tensors[0]
    narrow = describe(placement, INPUTS_ONLY, seen(graph), "percentile", 60.0).tensors[0]
    assert narrow.scale[0] < wide.scale[0]
    with pytest.raises(ConfigError, match="minmax"):
        describe(placement, INPUTS_ONLY, seen(graph), "widest")
    with pytest.raises(ConfigError, match="no statistics"):
        describe(placement, INPUTS_ONLY, Statistics(1))


def test_weights_that_multiply_a_model_input_may_take_fewer_bits(graph: ir.Graph) -> None:
    scheme = dataclasses.replace(INPUTS_ONLY, weight_bits=8, input_weight_bits=7)
    first, *others = [n.inputs[1] for n in graph if n.op_type == "Conv"]
    plan = {t.tensor: t.reason for t in describe(decide(graph, scheme), scheme, seen(graph)).tensors}
    assert first is not None
    assert "7 bits" in plan[first.name or ""]
    assert all("8 bits" in plan[v.name or ""] for v in others if v is not None)


def resized(mode: str) -> ir.Graph:
    """c = Conv(x); y = Conv(Resize(c)); z = Conv(c)."""
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,3,4,4] x) => (float[1,3,8,8] y, float[1,3,4,4] z)
        <float[4] scales = {{1,1,2,2}}, float[3,3,1,1] w> {{
            c = Conv(x, w)
            r = Resize<mode = "{mode}">(c, , scales)
            y = Conv(r, w)
            z = Conv(c, w)
        }}""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w"))
    return simplify(ir.from_proto(model)).graph


@pytest.mark.parametrize(("mode", "moves"), [("nearest", True), ("linear", False), ("cubic", False)])
def test_resize_moves_integers_only_where_it_copies_pixels(mode: str, moves: bool) -> None:
    """Between two pixels a new value arises, which needs a quantiser and a scale of its own."""
    once = dataclasses.replace(INPUTS_ONLY, shared=("Resize",))
    assert ("r" in quantised(resized(mode), once)) == (not moves)
    groups = decide(resized(mode), dataclasses.replace(once, requantize_shared=True)).groups
    assert (groups["r"] == groups["c"]) == moves


def test_weights_behind_the_reshaped_input_take_its_bits_too() -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,4,3] x) => (float[4,2] y)
        <int64[2] shape = {4, 3}, float[3,2] w = {1, 2, 3, 4, 5, 6}> {
            r = Reshape(x, shape)
            y = MatMul(r, w)
        }""")
    graph = infer_shapes(ir.from_proto(model)).graph
    scheme = dataclasses.replace(INPUTS_ONLY, weight_bits=8, input_weight_bits=7, shared=("Reshape",))
    (plan,) = describe_weights(graph.node(1), scheme, {"r": 0.1})
    assert plan.limits == (-63, 63)
    (plan,) = describe_weights(graph.node(1), dataclasses.replace(scheme, shared=()), {"r": 0.1})
    assert plan.limits == (-127, 127)
