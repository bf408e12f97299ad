"""Shape inference, binding of axes, raised opsets, tidied imports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from edgewright.errors import SourceError
from edgewright.graph.check import check_file
from edgewright.graph.load import load, save, tensor_specs
from edgewright.graph.opset import QDQ_OPSET, opset, raise_opset, require_opset
from edgewright.graph.shapes import bind_axes, infer_shapes, static_shape
from edgewright.graph.tidy import tidy


def run(path: Path) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def test_stale_shapes_are_forgotten(conv_proto: onnx.ModelProto) -> None:
    conv_proto.graph.value_info.append(onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [9, 9, 9, 9]))
    model = infer_shapes(ir.from_proto(conv_proto))
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert conv.outputs[0].shape is not None
    assert list(conv.outputs[0].shape)[1:] == [4, 4, 4]


def test_axes_are_bound_and_followed(conv_file: Path) -> None:
    model = load(conv_file)
    bound = bind_axes(model, {"batch": 6})
    assert next(static_shape(node.outputs[0]) for node in bound.graph) == (6, 4, 4, 4)
    assert tensor_specs(bound)[1][0].shape == (6, 5)
    assert tensor_specs(model)[0][0].shape == ("batch", 3, 8, 8)


@pytest.mark.parametrize("level", [13, QDQ_OPSET, 21])
def test_raising_the_opset_changes_nothing_else(level: int, conv_file: Path, tmp_path: Path) -> None:
    model = load(conv_file)
    raised = raise_opset(model, level)
    assert opset(raised) == level
    assert tensor_specs(raised) == tensor_specs(model)
    path = save(raised, tmp_path / "raised")
    check_file(path)
    np.testing.assert_allclose(run(path), run(conv_file), rtol=0, atol=0)


def test_a_new_enough_model_is_left_alone(conv_file: Path) -> None:
    model = load(conv_file)
    assert raise_opset(model, 11) is model


def test_shapes_computed_in_the_graph_are_followed() -> None:
    weights = [onnx.numpy_helper.from_array(np.asarray(v, np.int64), n) for n, v in (("zero", [0]), ("rest", [-1]))]
    nodes = [
        onnx.helper.make_node("Shape", ["x"], ["s"]),
        onnx.helper.make_node("Gather", ["s", "zero"], ["b"]),
        onnx.helper.make_node("Squeeze", ["b"], ["b0"]),
        onnx.helper.make_node("Unsqueeze", ["b0", "zero"], ["b1"]),
        onnx.helper.make_node("Concat", ["b1", "rest"], ["to"], axis=0),
        onnx.helper.make_node("Reshape", ["x", "to"], ["r"]),
        onnx.helper.make_node("Relu", ["r"], ["y"]),
    ]
    x, y = (onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 3, 4]), ("y", ["n", 12])))
    proto = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], weights))
    bound = bind_axes(ir.from_proto(proto), {"n": 5})
    assert static_shape(bound.graph.outputs[0]) == (5, 12)


def test_an_old_opset_is_refused_with_the_fix(conv_proto: onnx.ModelProto) -> None:
    conv_proto.opset_import[0].version = 9
    with pytest.raises(SourceError, match="opset 9") as caught:
        require_opset(ir.from_proto(conv_proto))
    assert "opset 17" in caught.value.hint


def test_tidy_fixes_initialisers_names_and_axes(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    for tensor in conv_proto.graph.initializer:
        conv_proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    conv_proto.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    model, notes = tidy(ir.from_proto(conv_proto))
    assert any("4 initialisers" in note for note in notes)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert tensor_specs(model)[0][0].shape[0] == "batch"
    names = [node.name for node in model.graph]
    assert all(names)
    assert len(set(names)) == len(names)
    check_file(save(model, tmp_path))


def test_constants_become_initialisers_and_outputs_stay(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.ones(4, np.float32))),
        onnx.helper.make_node("Constant", [], ["k"], value_float=2.0),
        onnx.helper.make_node("Mul", ["x", "c"], ["m"]),
        onnx.helper.make_node("Add", ["m", "k"], ["y"]),
    ]
    ends = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 4]), ("y", ["n", 4]), ("c", [4]))]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model, _ = tidy(ir.from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])))
    path = save(model, tmp_path)
    check_file(path)
    assert [spec.name for spec in tensor_specs(model)[1]] == ["y", "c"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    y, c = session.run(None, {"x": np.full((1, 4), 3, np.float32)})
    assert y.tolist() == [[5.0] * 4]
    assert c.tolist() == [1.0] * 4


def test_an_invalid_graph_is_refused_by_name(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    conv_proto.graph.node[1].input[0] = "nowhere"
    path = tmp_path / "bad.onnx"
    path.write_bytes(conv_proto.SerializeToString())
    with pytest.raises(SourceError, match="nowhere"):
        check_file(path)


def test_contradicting_shapes_are_refused(conv_proto: onnx.ModelProto, tmp_path: Path) -> None:
    conv_proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    path = tmp_path / "bad.onnx"
    path.write_bytes(conv_proto.SerializeToString())
    with pytest.raises(SourceError, match=r"bad\.onnx"):
        check_file(path)
