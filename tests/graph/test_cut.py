"""Running only what lies behind a cut gives what a whole run gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgewright.core.target import Plan, Scheme, exactly
from edgewright.graph import qdq
from edgewright.graph.cut import cut, cut_bytes, with_outputs
from edgewright.graph.groups import Choice, Group, groups, part_of
from edgewright.graph.plan import describe
from edgewright.graph.schemes import find
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.statistics import gather
from edgewright.passes._infer import open_infer
from edgewright.testing._gated_models import CONVOLUTIONS, gated_model, images
from edgewright.testing._target_models import Builder

U8S7 = find("onnxruntime-u8s7")


def planned(model: ir.Model, scheme: Scheme = U8S7) -> tuple[Plan, tuple[Group, ...]]:
    choice = Choice(model.graph, scheme, (), (), {})
    feeds = [([i], {"x": image}) for i, image in enumerate(images(3))]
    return describe(choice.without(()), scheme, gather(open_infer, model, feeds, bins=0)), groups(choice)


def whole_run(model: ir.Model, plan: Plan, feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    variant = model.clone()
    qdq.apply(variant.graph, plan)
    return open_infer(variant, fuse=False)(feed)


@pytest.mark.sample(3)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_a_part_run_equals_a_whole_run(operator: str) -> None:
    model = gated_model()
    plan, found = planned(model)
    alone = part_of(plan, next(group for group in found if operator in group.operators))
    part = cut(model, alone)
    feed = {"x": next(images(1, seed=9))}
    kept = {**feed, **open_infer(with_outputs(model, part.inputs.values()), fuse=False)(feed)}
    got = open_infer(part.model, fuse=False)({name: kept[tensor] for name, tensor in part.inputs.items()})
    np.testing.assert_array_equal(got["head"], whole_run(model, alone, feed)["head"])
    assert np.any(got["head"] != kept["head"])


def test_a_late_group_does_not_run_what_comes_before_it() -> None:
    model = gated_model()
    plan, found = planned(model)
    first, last = (cut(model, part_of(plan, found[i])) for i in (0, -1))
    assert first.macs > 5 * last.macs
    assert set(first.inputs.values()) == {"x"}
    assert "x" not in last.inputs.values()
    assert cut_bytes(model, ["x"]) == 3 * 12 * 12 * 4


def test_every_operator_is_in_one_group_and_every_quantiser_in_some() -> None:
    model = gated_model()
    plan, found = planned(model)
    assert [name for group in found for name in group.operators] == list(CONVOLUTIONS)
    assert {name for group in found for name in group.tensors} >= {tensor.tensor for tensor in plan.tensors}


def joined_directly() -> ir.Model:
    build = Builder()
    for name in ("a", "b"):
        build.add("Conv", ["x", build.weights(f"w_{name}", 4, 3, 1, 1)], name)
    build.add("Concat", ["a", "b"], "both", axis=1)
    build.add("Conv", ["both", build.weights("w_c", 2, 8, 1, 1)], "c")
    shapes = [("x", TensorProto.FLOAT, (1, 3, 12, 12))], [("c", TensorProto.FLOAT, (1, 2, 12, 12))]
    return infer_shapes(ir.from_proto(build.model(*shapes, {})))


def test_results_under_one_scale_are_one_group() -> None:
    one_scale = dataclasses.replace(
        U8S7, shared=(*U8S7.shared, "Concat"), quantized=tuple(op for op in U8S7.quantized if op != "Concat")
    )
    apart = planned(joined_directly())[1]
    together = planned(joined_directly(), one_scale)[1]
    assert [group.operators for group in apart] == [("a_node",), ("b_node",), ("c_node",)]
    assert [group.operators for group in together] == [("a_node", "b_node"), ("c_node",)]


def test_a_model_with_branches_runs_whole() -> None:
    inner = [
        helper.make_graph([helper.make_node(op, ["y"], [f"{op}_z"])], op, [], [_value(f"{op}_z")])
        for op in ("Relu", "Neg")
    ]
    build = Builder()
    build.weights("w", 3, 3, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
        helper.make_node("If", ["flag"], ["z"], name="choice", then_branch=inner[0], else_branch=inner[1]),
    ]
    flag = helper.make_tensor_value_info("flag", TensorProto.BOOL, [])
    graph = helper.make_graph(nodes, "g", [_value("x"), flag], [_value("z")], build.initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    onnx.checker.check_model(proto)
    part = cut(infer_shapes(ir.from_proto(proto)), Plan(""))
    assert dict(part.inputs) == {"x": "x", "flag": "flag"}
    assert open_infer(part.model)({"x": -np.ones((1, 3, 4, 4), np.float32), "flag": np.array(True)})["z"].shape == (
        1,
        3,
        4,
        4,
    )


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4])


@pytest.mark.parametrize("name", ["/layers[0]/Conv", "a*", "b?", "plain"])
def test_a_pattern_matches_one_name_exactly(name: str) -> None:
    from fnmatch import fnmatchcase

    assert fnmatchcase(name, exactly(name))
    assert not fnmatchcase("/layers0/Conv", exactly(name))
    assert not fnmatchcase("ab", exactly(name))


def test_a_group_knows_what_turns_float_with_it_and_who_reads_it() -> None:
    found = {group.operators[0]: group for group in planned(gated_model())[1]}
    depth = found["depth_node"]
    assert set(depth.nodes) == {"depth_node", "depth_gate_node", "depth_out_node", "stem_gate_node", "stem_out_node"}
    assert depth.feeds == ("point_node",)
    assert depth.elements == 8 * 12 * 12
    assert set(found["point_node"].feeds) == {"left_node", "right_node"}
    assert found["right_node"].feeds == ("head_node",)
