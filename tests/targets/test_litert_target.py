"""The LiteRT target beyond the conformance suite: its fields, what it refuses, metadata, layers beside the original."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

pytest.importorskip("ai_edge_litert.interpreter")

from edgewright.core.codec import encode_json
from edgewright.data.spec import DataSpec
from edgewright.errors import ConfigError, StepFailed
from edgewright.formats.tflite.reader import TfliteGraph, read_tflite
from edgewright.measure.parity import compare, random_feeds
from edgewright.runtimes import load_artifact, open_runner
from edgewright.targets.litert import LiteRtTarget, runtime_range
from edgewright.testing._target_models import conv_bn_relu, depthwise, embedding, quantized_conv, residual
from edgewright.testing._target_tools import QuietContext, compiled, feed_for, make, reference


def graph_of(artifact: Path) -> TfliteGraph:
    return read_tflite(artifact / "model.tflite")


def shapes(graph: TfliteGraph) -> list[tuple[str, tuple[int, ...]]]:
    return [(graph.tensors[n].dtype, tuple(graph.tensors[n].shape)) for n in (*graph.inputs, *graph.outputs)]


def test_images_are_channels_last_in_the_file_and_first_outside(tmp_path: Path) -> None:
    proto = conv_bn_relu()
    path = compiled("litert", proto, tmp_path / "last")
    assert shapes(graph_of(path)) == [("float32", (1, 8, 8, 3)), ("float32", (1, 8, 8, 8))]
    assert [spec.shape for spec in load_artifact(path).inputs] == [(1, 3, 8, 8)]
    kept = compiled("litert", proto, tmp_path / "first", channels_last=False)
    assert shapes(graph_of(kept))[0] == ("float32", (1, 3, 8, 8))
    feed = feed_for(proto)
    with open_runner(path) as one, open_runner(kept) as other:
        np.testing.assert_allclose(one.run(feed)["y"], other.run(feed)["y"], atol=1e-5)


def test_the_file_takes_the_batch_that_is_asked_for(tmp_path: Path) -> None:
    proto = depthwise()
    path = compiled("litert", proto, tmp_path, batch=4)
    assert shapes(graph_of(path))[0] == ("float32", (4, 8, 8, 8))
    feed = feed_for(proto, batch=6)
    with open_runner(path) as runner:
        np.testing.assert_allclose(runner.run(feed)["y"], reference(proto, feed)[0], atol=1e-4)


def test_half_the_weights(tmp_path: Path) -> None:
    proto = residual()
    feed = feed_for(proto)
    path = compiled("litert", proto, tmp_path, weights="float16")
    stored = {t.dtype for t in graph_of(path).tensors if t.data is not None and t.data.size > 100}
    assert stored == {"float16"}
    notes = {node.op: node.note for node in load_artifact(path).placement}
    assert notes["DEQUANTIZE"] == "done once, when the model is opened"
    with open_runner(path) as runner:
        np.testing.assert_allclose(runner.run(feed)["y"], reference(proto, feed)[0], atol=2e-2)


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integers_only(kind: str, tmp_path: Path) -> None:
    proto = quantized_conv()
    path = compiled("litert", proto, tmp_path, integer_only=kind, strict=True)
    graph = graph_of(path)
    assert shapes(graph) == [(kind, (1, 8, 8, 4)), (kind, (1, 8, 8, 8))]
    assert not any(tensor.dtype.startswith("float") for tensor in graph.tensors)
    assert [spec.dtype for spec in load_artifact(path).inputs] == ["float32"]
    feed = feed_for(proto)
    with open_runner(path) as runner:
        np.testing.assert_allclose(runner.run(feed)["y"], reference(proto, feed)[0], atol=0.0401)


def test_integers_only_refuses_a_float_model(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="not quantised"):
        compiled("litert", residual(), tmp_path, integer_only="int8")


@pytest.mark.parametrize(
    ("fields", "said"), [({"integer_only": "int4"}, "int4"), ({"weights": "int8"}, "int8"), ({"batch": 0}, "batch")]
)
def test_fields_are_checked(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        compiled("litert", residual(), tmp_path, **fields)


def test_a_free_axis_beside_the_batch_is_named(tmp_path: Path) -> None:
    reasons = make("litert").refuses(ir.from_proto(embedding()))
    assert reasons == ('input "tokens": axis "length" has no fixed size, which a .tflite file needs',)
    with pytest.raises(StepFailed, match='axis "length"'):
        compiled("litert", embedding(), tmp_path)


def test_an_operator_without_a_rule_is_named_with_its_node() -> None:
    node = helper.make_node("Det", ["x"], ["y"], "the_node")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 3]), ("y", [1]))]
    proto = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    (reason,) = make("litert").refuses(ir.from_proto(proto))
    assert "Det" in reason
    assert "the_node" in reason


def test_labels_and_normalisation_ship_inside_the_file(tmp_path: Path) -> None:
    """The target finds them in the data it proves placement with."""
    import sys

    pipeline = (
        {"op": "decode", "color": "gray"},
        {"op": "normalise", "scale": 1 / 255},
        {"op": "layout", "order": "chw"},
    )
    np.savez(tmp_path / "images.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.zeros(2, np.int64))
    splits = {"calibration": {"reader": "npz", "path": str(tmp_path / "images.npz")}}
    spec = DataSpec(str(tmp_path), splits, pipeline, labels=("yes", "no", "maybe", "never"))
    (tmp_path / "data.json").write_bytes(encode_json(spec))
    model, out = tmp_path / "model", tmp_path / "artifact"
    model.mkdir()
    out.mkdir()
    onnx.save(_gray_classifier(), model / "model.onnx")
    inputs = {"model": model, "data": tmp_path / "data.json"}
    LiteRtTarget().run(inputs, out, QuietContext(tmp_path / "scratch"))
    content = (out / "model.tflite").read_bytes()
    assert b"TFLITE_METADATA" in content
    assert b"min_runtime_version" in content
    with zipfile.ZipFile(out / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().split() == ["yes", "no", "maybe", "never"]
    with open_runner(out) as runner:
        assert runner.run({"x": np.ones((1, 1, 8, 8), np.float32)})["y"].shape == (1, 4)
    assert "tensorflow" not in sys.modules


def _gray_classifier() -> onnx.ModelProto:
    weights = onnx.numpy_helper.from_array(np.full((4, 1, 8, 8), 0.1, np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["y"])]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 8, 8]), ("y", [1, 4]))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weights])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_every_layer_is_compared_with_the_original(tmp_path: Path) -> None:
    """An artifact takes what the model takes, whatever its file takes; tensors pair by name in either layout."""
    proto = quantized_conv()
    path = compiled("litert", proto, tmp_path / "made", integer_only="int8")
    onnx.save(proto, tmp_path / "model.onnx")
    found = compare(tmp_path / "model.onnx", path, random_feeds(4))
    layers = {layer.tensor: layer for layer in found.layers}
    assert "c2" in layers or "c2_dq" in layers, sorted(layers)
    assert all(layer.sqnr_db > 25 for layer in layers.values())
    assert found.outputs[0].sqnr_db > 25


def test_files_are_expected_to_run_in_later_releases() -> None:
    assert runtime_range("2.3.0") == ">=2.0,<4"
