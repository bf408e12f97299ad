"""`edgewright inspect` and `edgewright merge` as a user calls them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgewright.cli.model import parse_input
from edgewright.errors import UsageError


def edgewright(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "second"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 32, 32])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.slow
def test_inspect_measures_and_draws(model_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = edgewright("inspect", model_file, "--json", "--html", page, "--runs", "3")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["parameters"] == 108
    assert found["macs"] == 32 * 32 * 4 * 27
    assert found["operators"] == {"Conv": 1, "Relu": 1}
    assert found["peak_activation_bytes"] == 4 * 1024 * 8
    assert found["file_bytes"] == model_file.stat().st_size
    assert found["times"]["runs"] == 3
    timed = [node["microseconds"] for node in found["nodes"] if node["microseconds"] is not None]
    assert 0 < sum(timed) <= found["times"]["total"] * 1.001
    assert {row["name"]: row["refuses"] for row in found["targets"]}["onnxruntime"] == []
    text = page.read_text()
    assert "<svg" in text
    assert not re.search(r"""(?:src|href)=|url\(|https?://(?!www\.w3\.org/2000/svg)""", text)


@pytest.mark.slow
def test_inspect_reads_what_no_runtime_here_runs(tmp_path: Path) -> None:
    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Strange", ["x"], ["y"], "odd", domain="acme")], "g", spec[:1], spec[1:]
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), tmp_path / "m.onnx")
    done = edgewright("inspect", tmp_path / "m.onnx", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["operators"] == {"acme.Strange": 1}
    assert found["times"]["note"].startswith("not measured")
    refusals = {row["name"]: row["refuses"] for row in found["targets"]}
    assert any("Strange" in reason for reason in refusals["onnxruntime"])


@pytest.mark.slow
def test_inspect_without_runs_prints_tables(model_file: Path) -> None:
    done = edgewright("inspect", model_file, "--runs", "0")
    assert done.returncode == 0, done.stderr
    for words in ("x: float32[batch, 3, 32, 32]", "108 parameters", "Conv 1, Relu 1", "no runs were asked for"):
        assert words in done.stdout


@pytest.mark.slow
def test_merge_side_by_side(model_file: Path, tmp_path: Path) -> None:
    done = edgewright("merge", model_file, model_file, "--output", tmp_path / "both.onnx", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [spec["name"] for spec in report["outputs"]] == ["y", "b_y"]
    assert report["largest_difference"] == 0
    assert (tmp_path / "both.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda path: None, 2, "no such model file"),
        (lambda path: path.write_bytes(b"junk"), 5, "not a complete ONNX file"),
        (lambda path: path.write_bytes(b""), 5, "without a graph"),
    ],
)
def test_bad_files_have_their_exit_code_and_a_fix(make: Any, code: int, message: str, tmp_path: Path) -> None:
    make(tmp_path / "m.onnx")
    done = edgewright("inspect", tmp_path / "m.onnx")
    assert done.returncode == code
    assert message in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.bench
def test_inspect_yolox_nano(bench: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    model = bench / "yolox_nano" / "yolox_nano.onnx"
    done = edgewright("inspect", model, "--json", "--html", page, "--runs", "3")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == 904463
    assert found["operators"]["Conv"] == 113
    assert page.read_text().count('class="node ') == 369 + 2


def test_inputs_are_parsed() -> None:
    assert str(parse_input("image:float32[batch, 3,8]")) == "image: float32[batch, 3, 8]"
    assert parse_input("t:int64[]").shape == ()
    for bad in ("image", "image:float32", "image[1]", "a:b:c[1]"):
        with pytest.raises(UsageError, match="name:dtype"):
            parse_input(bad)
