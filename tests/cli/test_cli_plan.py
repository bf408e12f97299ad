"""`edgewright plan` on real files, in process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from edgewright.cli.plan import app
from edgewright.errors import Corrupt, EdgewrightError, SourceError, UsageError
from edgewright.graph.schemes import find
from edgewright.testing._scheme_models import network, quantised


@pytest.fixture
def file(tmp_path: Path) -> Path:
    ir.save(quantised(find("onnxruntime-u8s8"))[0], tmp_path / "qdq.onnx")
    return tmp_path / "qdq.onnx"


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def printed(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_show(file: Path) -> None:
    text = run("show", file, "--scheme", "onnxruntime-u8s8")
    assert "int8   scale" in text
    assert "channels along axis 0" in text
    assert "obeys onnxruntime-u8s8" in text
    assert "predicted: " in text
    shown = printed("show", file, "--scheme", "openvino-u8s8")
    assert any('rule "types"' in finding for finding in shown["findings"])
    assert {t["tensor"] for t in shown["plan"]["tensors"]} >= {"x", "w0", "b0"}
    assert sum(shown["predicted"].values()) == len([*network().graph])


def test_apply_then_diff(file: Path, tmp_path: Path) -> None:
    made = printed("apply", file, "--scheme", "onnxruntime-u8u8", "-o", tmp_path / "other")
    assert made["quantised"] > 10
    assert (tmp_path / "other/plan.json").is_file()
    found = printed("diff", file, tmp_path / "other")
    assert {(d["name"], d["what"], d["first"], d["second"]) for d in found} >= {("w0", "type", "int8", "uint8")}
    assert not [d for d in found if d["name"] == "x" and d["what"] in ("type", "zero point")]
    assert "differences" in run("diff", file, tmp_path / "other")
    assert "the plans are the same" in run("diff", file, file)


def test_apply_to_a_float_model_takes_the_plan_of_another_file(file: Path, tmp_path: Path) -> None:
    ir.save(network(), tmp_path / "float.onnx")
    text = run("apply", tmp_path / "float.onnx", "--plan", file, "--scheme", "openvino-u8s8", "-o", tmp_path / "ov")
    assert "obeys openvino-u8s8" in text
    assert printed("show", tmp_path / "ov", "--scheme", "openvino-u8s8")["findings"] == []


def _float(folder: Path, file: Path) -> list[object]:
    ir.save(network(), folder / "float.onnx")
    return ["show", folder / "float.onnx"]


def _damaged(folder: Path, file: Path) -> list[object]:
    (folder / "plan.json").write_text('{"scheme": 3}')
    return ["diff", file, folder / "plan.json"]


BAD: list[tuple[Any, type[EdgewrightError], str]] = [
    (_float, UsageError, "no quantisers"),
    (_damaged, Corrupt, "not a plan"),
    (lambda folder, file: ["show", folder / "none.json"], UsageError, "no such file"),
    (lambda folder, file: ["show", folder / "none.onnx"], SourceError, "none.onnx"),
    (lambda folder, file: ["show", file, "--scheme", "openvino-u8s9"], UsageError, "unknown scheme"),
    (lambda folder, file: ["apply", file, "--scheme", "x", "-o", folder / "o"], UsageError, "unknown scheme"),
    (lambda folder, file: ["apply", file, "--scheme", "generic-u8s8", "-o", folder / "o.onnx"], UsageError, "folder"),
]


@pytest.mark.parametrize(("make", "error", "message"), BAD)
def test_bad_input_is_explained(make: Any, error: type[EdgewrightError], message: str, file: Path) -> None:
    with pytest.raises(error, match=message) as caught:
        run(*make(file.parent, file))
    assert caught.value.hint
