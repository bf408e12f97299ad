"""The parts that runners share, and what opening costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, OperatorTime
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, DataError, ToolchainMissing
from edgewright.runtimes import find_runtime, load_artifact
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes.onnxruntime import median_times

SPECS = (TensorSpec("a", "float32", ("batch", 3)), TensorSpec("b", "int64", ("batch", "length")))


@given(batch=st.integers(1, 5), length=st.integers(1, 7))
def test_any_size_of_a_dynamic_axis_fits(batch: int, length: int) -> None:
    check_inputs(SPECS, {"a": np.zeros((batch, 3), np.float32), "b": np.zeros((batch, length), np.int64)})


@given(first=st.integers(1, 5), second=st.integers(1, 5), width=st.integers(1, 5))
def test_one_axis_name_means_one_size(first: int, second: int, width: int) -> None:
    feed = {"a": np.zeros((first, width), np.float32), "b": np.zeros((second, 2), np.int64)}
    if first == second and width == 3:
        check_inputs(SPECS, feed)
        return
    with pytest.raises(DataError, match="expected shape"):
        check_inputs(SPECS, feed)


def test_a_list_is_not_an_array() -> None:
    with pytest.raises(DataError, match="got list"):
        check_inputs(SPECS[:1], {"a": [[1.0, 2.0, 3.0]]})  # type: ignore[dict-item]


def test_no_inputs_are_reported_as_nothing() -> None:
    with pytest.raises(DataError, match="got nothing"):
        check_inputs(SPECS, {})


def described(folder: Path, *files: str) -> Path:
    artifact = Artifact("t", "null", "1", ">=0", files, (), (), "float32")
    (folder / "artifact.json").write_bytes(encode_json(artifact))
    return folder


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\b", ""])
def test_paths_outside_the_artifact_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="leaves the artifact folder"):
        load_artifact(described(tmp_path, name))


def test_an_artifact_without_files_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="lists no files"):
        load_artifact(described(tmp_path))


def test_a_folder_that_is_no_artifact_says_so(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match=r"artifact\.json does not exist"):
        load_artifact(tmp_path)


@pytest.mark.parametrize("name", ["no-such", "_open", "host", "../null", ""])
def test_unknown_runtimes_are_named(name: str) -> None:
    with pytest.raises(ToolchainMissing, match="no runtime is called"):
        find_runtime(name)


def test_times_are_medians_per_node() -> None:
    events = [
        {"name": f"{node}_kernel_time", "dur": dur, "args": {"op_name": "Conv"}}
        for node, dur in (("a", 5), ("b", 1), ("a", 100), ("a", 7))
    ]
    assert median_times(events) == (OperatorTime("a", "Conv", 7.0), OperatorTime("b", "Conv", 1.0))


@pytest.mark.slow
def test_openvino_is_opened_without_telemetry() -> None:
    code = """
import socket, sys
def refuse(self, *args): raise AssertionError("tried to connect")
socket.socket.connect = refuse
from edgewright.runtimes._require import require_openvino
openvino = require_openvino()
openvino.Core()
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry.")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_the_package_imports_no_framework() -> None:
    code = (
        "import sys, edgewright.runtimes, edgewright.runtimes.null, edgewright.runtimes.openvino;"
        "import edgewright.runtimes.onnxruntime;"
        "print(*[m for m in ('onnx', 'onnx_ir', 'onnxruntime', 'openvino', 'torch', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
