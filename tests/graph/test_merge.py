"""Joined models compute what the two compute in turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import SourceError, UsageError
from edgewright.graph.load import load, tensor_specs
from edgewright.graph.merge import merge
from edgewright.sources.joined import join_files, parse_connections


@pytest.fixture
def head_file(tmp_path: Path) -> Path:
    """Takes "y" too, has clashing names, and a newer opset."""
    weight = numpy_helper.from_array(np.random.default_rng(2).standard_normal((5, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("MatMul", ["y", "w"], ["c"], "conv"), helper.make_node("Softmax", ["c"], ["out"])]
    inputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])]
    model = helper.make_model(
        helper.make_graph(nodes, "head", inputs, outputs, [weight]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    onnx.save(model, tmp_path / "head.onnx")
    return tmp_path / "head.onnx"


def test_chain(conv_file: Path, head_file: Path, tmp_path: Path) -> None:
    report = join_files(conv_file, head_file, {"y": "y"}, tmp_path / "joined.onnx")
    assert [spec.name for spec in report.inputs] == ["x"]
    assert [spec.name for spec in report.outputs] == ["out"]
    assert report.opset == 17
    assert report.compared_samples == 4
    assert report.snr_db is None or report.snr_db > 120
    model = load(tmp_path / "joined.onnx")
    names = [node.name for node in model.graph]
    assert len(set(names)) == len(names) == 7


def test_side_by_side_with_itself_prefixes_the_second(conv_file: Path, tmp_path: Path) -> None:
    report = join_files(conv_file, conv_file, {}, tmp_path / "joined")
    assert [spec.name for spec in report.inputs] == ["x", "b_x"]
    assert [spec.name for spec in report.outputs] == ["y", "b_y"]
    assert report.renamed == {"x": "b_x", "y": "b_y"}
    assert report.path == str(tmp_path / "joined" / "model.onnx")


@pytest.mark.parametrize(
    ("connect", "message"),
    [
        ({"nope": "y"}, 'no output "nope"'),
        ({"y": "nope"}, 'no input "nope"'),
    ],
)
def test_unknown_names_list_the_known(
    connect: dict[str, str], message: str, conv_file: Path, head_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        join_files(conv_file, head_file, connect, tmp_path / "joined.onnx")
    assert "y" in caught.value.hint
    assert not (tmp_path / "joined.onnx").exists()


def test_tensors_that_do_not_fit_are_shown(conv_file: Path) -> None:
    with pytest.raises(SourceError, match=r"y: float32\[batch, 5\] does not fit x: float32\[batch, 3, 8, 8\]"):
        merge(load(conv_file), load(conv_file), {"y": "x"})


def test_the_inputs_are_never_overwritten(conv_file: Path) -> None:
    before = conv_file.read_bytes()
    with pytest.raises(UsageError, match="one of the models"):
        join_files(conv_file, conv_file, {}, conv_file)
    assert conv_file.read_bytes() == before


def test_a_model_whose_output_is_its_input_passes_through(conv_file: Path) -> None:
    value = ir.val("y", ir.DataType.FLOAT, ["batch", 5])
    relu = ir.node("Relu", [value])
    relu.outputs[0].name = "z"
    second = ir.Model(ir.Graph([value], [value, relu.outputs[0]], nodes=[relu], opset_imports={"": 17}), ir_version=8)
    joined = merge(load(conv_file), second, {"y": "y"}).model
    assert [spec.name for spec in tensor_specs(joined)[1]] == ["y", "z"]


def test_connections_are_parsed() -> None:
    assert parse_connections(["a:b", "c:0=d:1"]) == {"a": "b", "c:0": "d:1"}
    for bad in ("a", ":b", "a:", "a:b:c", "a=b=c"):
        with pytest.raises(UsageError):
            parse_connections([bad])
    with pytest.raises(UsageError, match="twice"):
        parse_connections(["a:b", "a:c"])
