"""The smoke test of every commit: under five seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edgewright.core.recipe import StepSpec
from edgewright.engine import registry
from edgewright.pipeline.preprocess import Preprocess


def test_command_line_answers() -> None:
    program = Path(sys.executable).with_name("edgewright")
    found = subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
    for verb in ("optimize", "inspect", "merge", "pack", "verify", "run", "targets", "cache"):
        assert verb in found.stdout


def test_every_group_of_plugins_is_found() -> None:
    assert set(registry.names("targets")) >= {"null", "onnxruntime", "openvino"}
    assert set(registry.names("sources")) >= {"onnx", "tflite", "torch"}
    assert registry.make("targets", StepSpec("null")).name == "null"


def test_a_pipeline_is_built_from_tables(tmp_path: Path) -> None:
    pipeline = Preprocess.from_spec([{"op": "cast", "dtype": "float32"}], tmp_path)
    assert pipeline is not None
