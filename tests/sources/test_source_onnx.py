"""Source `onnx`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import SourceError, StepFailed
from edgewright.graph.load import load
from edgewright.sources import _verify
from edgewright.sources.onnx import OnnxSource
from edgewright.testing._pass_models import stored

Run = Callable[..., tuple[Path, dict[str, Any]]]


def save(path: Path, nodes: list[Any], weights: list[Any], shape: list[Any], opset: int = 13) -> Path:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize("batch", ["n", 2])
def test_import_is_exact(opset: int, batch: Any, tmp_path: Path, run_source: Run) -> None:
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    path = save(tmp_path / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [weight], [batch, 4], opset)
    _, record = run_source(OnnxSource(samples=3), model=path)
    assert record["kind"] == "onnx"
    assert record["opset"] == opset
    assert (record["compared_samples"], record["largest_difference"], record["snr_db"]) == (3, 0.0, None)
    assert record["inputs"][0]["shape"] == [batch, 4]
    assert "random inputs, seed 0" in record["compared_with"]


def test_a_file_version_newer_than_runtimes_read_is_lowered(tmp_path: Path, run_source: Run) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [], ["n", 4])
    proto = onnx.load(path)
    proto.ir_version = onnx.IR_VERSION
    onnx.save(proto, path)
    out, record = run_source(OnnxSource(samples=1), model=path)
    assert load(out).ir_version == 10
    assert any("file version was lowered" in note for note in record["notes"])


def test_qdq_is_kept(tmp_path: Path, run_source: Run) -> None:
    weights = [
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(3), "z"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    out, _ = run_source(OnnxSource(samples=1), model=save(tmp_path / "m.onnx", nodes, weights, ["n", 4]))
    assert [node.op_type for node in load(out).graph] == ["QuantizeLinear", "DequantizeLinear", "Relu"]


def test_weights_stored_as_integers_become_float(tmp_path: Path, run_source: Run) -> None:
    """Else the original would compute them in every inference, and everything else look faster beside it."""
    onnx.save(stored(), tmp_path / "m.onnx")
    out, record = run_source(OnnxSource(samples=3), model=tmp_path / "m.onnx")
    model = load(out)
    assert [node.op_type for node in model.graph] == ["Conv", "Relu", "Conv"]
    assert {v.dtype.numpy().name for v in model.graph.initializers.values() if v.dtype} == {"float32"}
    assert record["largest_difference"] < 1e-6
    assert "2 weights stored as integers were turned into the float32 values they stand for" in record["notes"]


def test_weights_in_blocks_stay_as_they_are(tmp_path: Path, run_source: Run) -> None:
    weights = [
        numpy_helper.from_array(np.arange(32, dtype=np.int8).reshape(8, 4), "q"),
        numpy_helper.from_array(np.full((2, 4), 0.1, np.float32), "s"),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=4),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    out, _ = run_source(OnnxSource(samples=1), model=save(tmp_path / "m.onnx", nodes, weights, ["n", 8], opset=21))
    assert [node.op_type for node in load(out).graph] == ["DequantizeLinear", "MatMul"]


def test_a_folder_with_external_data_is_imported_whole(tmp_path: Path, run_source: Run) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    weight = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "w")
    path = save(folder / "m.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])], [weight], ["n", 4])
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    out, _ = run_source(OnnxSource(samples=1), model=folder)
    (folder / "w.bin").unlink()
    np.testing.assert_array_equal(load(out).graph.initializers["w"].const_value.numpy().ravel(), np.arange(12))


def test_an_old_opset_is_refused(tmp_path: Path, run_source: Run) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], [], ["n", 4], opset=9)
    with pytest.raises(SourceError, match="opset 9, at least 11"):
        run_source(OnnxSource(), model=path)


def test_an_unknown_operator_is_named(tmp_path: Path, run_source: Run) -> None:
    path = save(tmp_path / "m.onnx", [helper.make_node("NoSuchOp", ["x"], ["y"], "odd")], [], ["n", 4])
    with pytest.raises(SourceError, match="NoSuchOp"):
        run_source(OnnxSource(), model=path)


def feeds(count: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((1, 100)).astype(np.float32)} for _ in range(count)]


def test_the_difference_is_measured_not_assumed() -> None:
    found = _verify.compare(lambda f: {"y": f["x"]}, lambda f: {"y": f["x"] * 1.01}, feeds())
    assert found.samples == 3
    assert found.snr_db == pytest.approx(40.0, abs=0.01)
    assert found.largest == pytest.approx(0.01 * max(float(np.abs(f["x"]).max()) for f in feeds()), rel=1e-4)
    with pytest.raises(StepFailed, match=r"40\.0 dB, at least 60 dB"):
        _verify.check_difference(found, 60, "its source")


def test_the_worst_output_counts() -> None:
    found = _verify.compare(lambda f: {"y": f["x"], "z": f["x"]}, lambda f: {"y": f["x"], "z": f["x"] * 1.1}, feeds())
    assert found.snr_db == pytest.approx(20.0, abs=0.01)


def test_other_shapes_and_missing_numbers_fail() -> None:
    with pytest.raises(StepFailed, match=r'output "y": shape \(1, 100\) expected, \(1, 99\)'):
        _verify.compare(lambda f: {"y": f["x"]}, lambda f: {"y": f["x"][:, :99]}, feeds())
    with pytest.raises(StepFailed, match='output "y"'):
        _verify.compare(lambda f: {"y": f["x"]}, lambda f: {}, feeds())
    with pytest.raises(StepFailed, match="not a finite number"):
        _verify.compare(lambda f: {"y": f["x"]}, lambda f: {"y": f["x"] * np.float32("nan")}, feeds())


def test_equal_infinities_and_nans_are_equal() -> None:
    odd = np.float32([[np.inf, -np.inf, np.nan, 1.0]])
    found = _verify.compare(lambda f: {"y": odd}, lambda f: {"y": odd.copy()}, feeds(1))
    assert (found.largest, found.snr_db) == (0.0, None)


@pytest.mark.bench
def test_yolox_nano(bench: Path, run_source: Run) -> None:
    out, record = run_source(OnnxSource(samples=1), model=bench / "yolox_nano" / "yolox_nano.onnx")
    assert (record["opset"], record["largest_difference"]) == (11, 0.0)
    assert len(list(load(out).graph)) == 369


@pytest.mark.bench
def test_the_published_keyword_spotter_is_float_after_import(bench: Path, run_source: Run) -> None:
    out, record = run_source(OnnxSource(), model=bench / "kws" / "kws01_ref_model_float32.onnx")
    assert not [node.name for node in load(out).graph if "Quantize" in node.op_type or "Dequantize" in node.op_type]
    assert any("stored as integers" in note for note in record["notes"])
