"""`edgewright check` from a model to its table: refusals with their layers, risks per target, exit codes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.errors import ConfigError
from edgewright.project.check import chosen_targets, subject_of
from edgewright.project.config import load_project
from edgewright.report.check_text import check_table
from edgewright.report.checking import Check, check_model
from edgewright.report.inspection import Subject

PLAIN_X86 = Device("local", "x86_64", "test", 2, ("avx2",), 8 << 30, "Linux")


def save(path: Path, op: str, domain: str = "", **attributes: Any) -> Path:
    """Conv > `op` > Conv with a free batch."""
    weights = (np.random.default_rng(0).standard_normal((8, 8, 1, 1)) / 4).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "/stem/conv/Conv"),
        helper.make_node(op, ["a"], ["b"], "/body/middle/Op", domain=domain, **attributes),
        helper.make_node("Conv", ["b", "w1"], ["y"], "/head/conv/Conv"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 8, 8]) for name in "xy"]
    constants = [numpy_helper.from_array(weights * factor, f"w{i}") for i, factor in enumerate((1.0, 2.0))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def checked(model: Path, *targets: str) -> Check:
    return check_model(Subject(str(model)), [StepSpec(name, {}) for name in targets], PLAIN_X86)


def test_a_risk_names_layer_reason_and_way_out(tmp_path: Path) -> None:
    found = checked(save(tmp_path / "m.onnx", "Mish"), "onnxruntime", "openvino")
    assert found.refused == ()
    assert (found.opset, [row.scheme for row in found.targets]) == (
        20,
        ["onnxruntime-u8s8-pairs", "openvino-u8s8-avx2"],
    )
    for row in found.targets:
        (mish,) = (each for each in row.findings if each.rule == "activation")
        assert [layer.shown for layer in mish.layers] == ["body.middle"]
        assert (mish.level, bool(mish.why), bool(mish.instead)) == ("risky", True, True)
        assert row.integer_share == 1.0


def test_an_operator_that_nobody_knows_is_refused_with_its_layer(tmp_path: Path) -> None:
    found = checked(save(tmp_path / "m.onnx", "Unheard", domain="com.example"), "onnxruntime", "openvino")
    assert found.refused == ("onnxruntime", "openvino")
    for row in found.targets:
        first = row.findings[0]
        assert first.level == "refused"
        assert "Unheard" in first.why
        assert [layer.shown for layer in first.layers] == ["body.middle"]


def test_findings_that_targets_share_are_told_once(tmp_path: Path) -> None:
    found = checked(save(tmp_path / "m.onnx", "Mish"), "onnxruntime", "openvino")
    stream = io.StringIO()
    check_table(found, Console(file=stream, width=120))
    text = stream.getvalue()
    assert text.count("activation  onnxruntime, openvino") == 1
    assert "where:   body.middle" in text
    assert "instead: ReLU" in text


def test_a_target_without_its_toolchain_is_told_with_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright.engine.toolchain.missing", lambda extra: ("openvino",) * (extra == "openvino"))
    (row,) = checked(save(tmp_path / "m.onnx", "Mish"), "openvino").targets
    assert row.install == 'pip install "edgewright[openvino]"'
    assert not row.refused
    assert {finding.rule for finding in row.findings} >= {"activation"}, "risks are known all the same"


def test_targets_are_those_named_or_those_of_the_project(tmp_path: Path) -> None:
    save(tmp_path / "m.onnx", "Relu")
    (tmp_path / "edgewright.toml").write_text(
        'schema = 1\nname = "p"\n[model]\nsource = "m.onnx"\n[[targets]]\nname = "openvino"\nstrict = true\n'
        '[data]\npath = "x"\n[data.calibration]\n[data.tune]\n[data.test]\n'
    )
    project = load_project(tmp_path / "edgewright.toml")
    assert chosen_targets((), project) == (StepSpec("openvino", {"strict": True}),)
    assert chosen_targets(("litert",), project) == (StepSpec("litert", {}),)
    assert {"onnxruntime", "litert"} <= {spec.name for spec in chosen_targets((), None)}
    assert Path(subject_of(project).source) == tmp_path / "m.onnx"
    with pytest.raises(ConfigError, match="no-such"):
        chosen_targets(("no-such",), None)


def edgewright(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_tells_by_its_exit_code(tmp_path: Path) -> None:
    good = edgewright("check", save(tmp_path / "m.onnx", "Mish"), "--target", "onnxruntime", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["targets"][0]["findings"]
    refused = edgewright("check", save(tmp_path / "n.onnx", "Unheard", domain="com.example"), "--target", "onnxruntime")
    assert refused.returncode == 1, refused.stderr
    assert "refused target  onnxruntime" in refused.stdout
    assert edgewright("check").returncode == 2


@pytest.mark.slow
def test_a_module_is_checked_without_training_or_exporting_it(tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "class Block(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv1, self.bn1, self.act = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU()\n"
        "    def forward(self, x):\n"
        "        return self.act(self.bn1(self.conv1(x)))\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.backbone, self.head = nn.Sequential(Block()), nn.Conv2d(8, 8, 1)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.backbone(x))\n"
        "def net():\n"
        "    return Net()\n"
    )
    done = edgewright(
        *("check", "mynet:net", "--code", tmp_path, "--input", "x:float32[1,3,16,16]"),
        *("--target", "onnxruntime", "--target", "openvino", "--json"),
    )
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["targets"]:
        (silu,) = (finding for finding in row["findings"] if finding["rule"] == "silu")
        assert [(layer["layer"], layer["line"]) for layer in silu["layers"]] == [("backbone.0.act", "mynet.py:7")]
