"""`edgewright compare` from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.errors import DataError
from edgewright.project.compare import Samples, compare

PROJECT = """
schema = 1
name = "tiny"
[model]
source = "model.onnx"
[[targets]]
name = "onnxruntime"
[data]
reader = "npz"
path = "d.npz"
calibration = {rows = "0:4"}
tune = {rows = "4:8"}
test = {rows = "8:12"}
[[preprocess]]
op = "cast"
dtype = "float32"
[[preprocess]]
op = "scale"
by = 0.5
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], "last"),
    ]
    weights = {
        "w": rng.normal(size=(6, 5)).astype(np.float32),
        "v": rng.normal(size=(5, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def edgewright(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", "compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "160"})


@pytest.mark.slow
def test_table_json_and_page(model: Path, tmp_path: Path) -> None:
    other = onnx.load(model)
    other.graph.initializer[1].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(other.graph.initializer[1]) * np.float32(1.1), "v")
    )
    changed = tmp_path / "changed.onnx"
    onnx.save(other, changed)
    shown = edgewright(model, changed, "--samples", "4", "--html", tmp_path / "page.html")
    assert shown.returncode == 0, shown.stderr
    assert "warning: random inputs" in shown.stderr
    assert "20.0" in shown.stdout, "a tenth too much is 20 dB"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    found = json.loads(edgewright(model, changed, "--samples", "4", "--json").stdout)
    assert found["samples"] == 4
    assert found["outputs"][0]["sqnr_db"] == pytest.approx(20.0, abs=0.01)
    refused = edgewright(model, tmp_path / "nothing.onnx")
    assert refused.returncode == 2
    assert "no such model file" in refused.stderr


def test_samples_of_a_project_pass_its_preprocessing(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((12, 6), 4.0), y=np.zeros(12, np.int64))
    (tmp_path / "edgewright.toml").write_text(PROJECT)
    found = compare(model, model, Samples(project=tmp_path, count=3))
    assert (found.samples, found.conditions["samples"]) == (3, f"split tune of {tmp_path.name}")
    weights = numpy_helper.to_array(onnx.load(model).graph.initializer[0])
    product = next(layer for layer in found.layers if layer.tensor in ("h", "r"))
    highest = float((2.0 * weights.sum(axis=0)).max())
    assert highest > 0
    assert product.high == pytest.approx(highest, rel=1e-5)


def test_a_file_that_holds_no_arrays(model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_text("nothing")
    with pytest.raises(DataError, match=r"x\.npz"):
        compare(model, model, Samples(inputs=tmp_path / "x.npz"))
