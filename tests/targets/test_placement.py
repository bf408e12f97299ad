"""What placement says about precision hints, float16, weights-only storage, islands and plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, Plan
from edgewright.data import data_spec, save_spec
from edgewright.errors import ConfigError, Corrupt, DataError, StepFailed
from edgewright.runtimes import load_artifact, open_runner
from edgewright.runtimes._machine import local_device
from edgewright.testing._target_models import Builder, conv_bn_relu, one_sided_conv, perceptron, quantized_conv
from edgewright.testing.targets import QuietContext, compiled, expecting, feed_for, make

REAL = ("onnxruntime", "openvino")


def compiled_with_plan(target: str, proto: onnx.ModelProto, plan: Plan, folder: Path, **fields: object) -> Artifact:
    model, out = folder / "model", folder / "artifact"
    model.mkdir()
    out.mkdir()
    onnx.save(proto, model / "model.onnx")
    (model / "plan.json").write_bytes(encode_json(plan))
    make(target, **fields).run({"model": model}, out, QuietContext(folder / "scratch"))
    return load_artifact(out)


@pytest.mark.parametrize("target", REAL)
def test_a_node_that_the_plan_keeps_in_float_is_planned(target: str, tmp_path: Path) -> None:
    plan = Plan("x", kept_float={"c2_node": "too sensitive", "c1_node": "its output stays float"})
    artifact = compiled_with_plan(target, one_sided_conv(), plan, tmp_path, strict=True)
    assert all(node.planned for node in artifact.placement)


@pytest.mark.parametrize("target", REAL)
def test_integers_that_only_store_weights_are_no_broken_promise(target: str, tmp_path: Path) -> None:
    build = Builder()
    build.add("Conv", ["x", build.quantized_weights("w", 8, 4, 3, 3)], "y")
    shapes = [("x", TensorProto.FLOAT, (1, 4, 8, 8))], [("y", TensorProto.FLOAT, (1, 8, 6, 6))]
    artifact = load_artifact(compiled(target, build.model(*shapes, {}), tmp_path, strict=True))
    assert artifact.precision == "float32"


@pytest.mark.parametrize("target", REAL)
def test_a_precision_hint_is_held_against_what_runs(target: str, tmp_path: Path) -> None:
    artifact = compiled_with_plan(target, conv_bn_relu(), Plan("", hints={"inference_precision": "bf16"}), tmp_path)
    native = make(target).precisions(local_device())["bfloat16"] == ""
    notes = [node.note for node in artifact.placement if not node.planned]
    assert bool(notes) is not native
    assert all("bfloat16" in note and "float32" in note for note in notes)
    assert artifact.precision == ("bfloat16" if native else "float32")
    if target == "openvino":
        assert artifact.session["INFERENCE_PRECISION_HINT"] == "bf16"


def test_the_field_wins_over_the_hint(tmp_path: Path) -> None:
    plan = Plan("", hints={"inference_precision": "bf16"})
    artifact = compiled_with_plan("openvino", conv_bn_relu(), plan, tmp_path, precision="float32", strict=True)
    assert artifact.session["INFERENCE_PRECISION_HINT"] == "f32"


def test_an_unknown_precision_is_a_configuration_error(tmp_path: Path) -> None:
    with expecting(ConfigError, "float8"):
        compiled("openvino", conv_bn_relu(), tmp_path, precision="float8")


def test_a_damaged_plan_is_corrupt(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    onnx.save(conv_bn_relu(), model / "model.onnx")
    (model / "plan.json").write_text('{"scheme": 3}')
    with expecting(Corrupt, "plan.json"):
        make("onnxruntime").run({"model": model}, tmp_path, QuietContext(tmp_path))


@pytest.mark.parametrize("target", REAL)
def test_float16_that_runs_in_float32_is_unplanned(target: str, tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((4, 3), np.float16), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, s) for n, s in (("x", [2, 4]), ("y", [2, 3]))]
    graph = helper.make_graph(nodes, "half", values[:1], values[1:], [weights])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    artifact = load_artifact(compiled(target, proto, tmp_path))
    product = [node for node in artifact.placement if "product" in node.source and node.precision != "conversion"]
    assert product
    assert all(node.planned == (node.precision == "float16") for node in product)


@pytest.mark.parametrize("target", REAL)
def test_what_cannot_be_compiled_names_its_node(target: str, tmp_path: Path) -> None:
    build = Builder()
    build.add("Frobnicate", ["x"], "y", domain="nowhere.example")
    shapes = [("x", TensorProto.FLOAT, (1, 4))], [("y", TensorProto.FLOAT, (1, 4))]
    with expecting(StepFailed, "Frobnicate"):
        compiled(target, build.model(*shapes, {"nowhere.example": 1}), tmp_path)


def test_onnxruntime_refuses_opsets_it_does_not_guarantee() -> None:
    import onnx_ir as ir

    proto = perceptron()
    proto.opset_import[0].version = 99
    reasons = make("onnxruntime").refuses(ir.from_proto(proto))
    assert any("opset 99" in reason for reason in reasons), reasons


def test_onnxruntime_takes_constants_which_need_no_kernel(tmp_path: Path) -> None:
    import onnx_ir as ir

    value = helper.make_tensor("v", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    nodes = [helper.make_node("Constant", [], ["k"], value=value), helper.make_node("Add", ["x", "k"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert make("onnxruntime").refuses(ir.from_proto(proto)) == ()
    compiled("onnxruntime", proto, tmp_path)


def test_onnxruntime_refuses_types_without_a_kernel() -> None:
    import onnx_ir as ir

    values = [helper.make_tensor_value_info(n, TensorProto.BFLOAT16, [1, 3, 4, 4]) for n in "xwy"]
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], "g", values[:2], values[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    reasons = make("onnxruntime").refuses(ir.from_proto(proto))
    assert any('"c"' in reason and "bfloat16" in reason for reason in reasons), reasons


def test_islands_name_the_node_they_surround(tmp_path: Path) -> None:
    artifact = load_artifact(compiled("onnxruntime", one_sided_conv(), tmp_path))
    conversions = [node for node in artifact.placement if node.precision == "conversion" and not node.planned]
    assert any("w2_node" in node.source and "c2_node" in node.note for node in conversions)


def test_openvino_stores_float16_only_when_asked(tmp_path: Path) -> None:
    plain, small = (
        compiled("openvino", perceptron(), tmp_path / name, compress=compress)
        for name, compress in (("plain", False), ("small", True))
    )
    assert (small / "model.bin").stat().st_size < 0.6 * (plain / "model.bin").stat().st_size
    feed = feed_for(perceptron())
    with open_runner(plain) as one, open_runner(small) as other:
        np.testing.assert_allclose(one.run(feed)["y"], other.run(feed)["y"], atol=2e-3)


def test_onnxruntime_takes_session_options_from_scheme_hint_and_field(tmp_path: Path) -> None:
    plan = Plan("", hints={"session": {"session.intra_op.allow_spinning": "0"}})
    fields = {"session": {"session.set_denormal_as_zero": "1"}}
    artifact = compiled_with_plan("onnxruntime", quantized_conv(), plan, tmp_path, **fields)
    assert artifact.session == {"session.intra_op.allow_spinning": "0", "session.set_denormal_as_zero": "1"}


def test_nodes_called_like_openvinos_own_keep_their_names(tmp_path: Path) -> None:
    proto = perceptron()
    for index, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{90 + index}"
    artifact = load_artifact(compiled("openvino", proto, tmp_path))
    traced = {source for node in artifact.placement for source in node.source}
    assert {"MatMul_92", "Softmax_94"} <= traced


def with_data(target: str, rows: np.ndarray, folder: Path) -> Artifact:
    np.savez(folder / "rows.npz", x=rows, y=np.arange(len(rows)))
    spec = data_spec(folder, {"reader": "npz", "path": "rows.npz", "calibration": {"rows": "0:2"}})
    save_spec(spec, folder / "data.json")
    model, out = folder / "model", folder / "artifact"
    model.mkdir()
    out.mkdir()
    onnx.save(perceptron(), model / "model.onnx")
    inputs = {"model": model, "data": folder / "data.json"}
    make(target).run(inputs, out, QuietContext(folder / "scratch"))
    return load_artifact(out)


@pytest.mark.parametrize("target", REAL)
def test_placement_is_proven_on_real_data_where_there_are_some(target: str, tmp_path: Path) -> None:
    assert with_data(target, np.ones((4, 8), np.float32), tmp_path).placement


@pytest.mark.parametrize("target", REAL)
def test_data_that_do_not_fit_are_refused(target: str, tmp_path: Path) -> None:
    with expecting(DataError, "9"):
        with_data(target, np.ones((4, 9), np.float32), tmp_path)


def test_a_model_without_inputs_compiles(tmp_path: Path) -> None:
    build = Builder()
    build.add("Identity", [build.constant("c", np.float32([1, 2]))], "y")
    proto = build.model([], [("y", TensorProto.FLOAT, (2,))], {})
    with open_runner(compiled("onnxruntime", proto, tmp_path)) as runner:
        np.testing.assert_array_equal(runner.run({})["y"], [1, 2])


def test_weights_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    proto = perceptron()
    model, out = tmp_path / "model", tmp_path / "artifact"
    model.mkdir()
    out.mkdir()
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save(perceptron(), model / "model.onnx", **options)
    make("onnxruntime").run({"model": model}, out, QuietContext(tmp_path / "scratch"))
    (model / "weights.bin").unlink()
    with open_runner(out) as runner:
        np.testing.assert_allclose(runner.run(feed_for(proto))["y"].sum(), 1, atol=1e-5)
