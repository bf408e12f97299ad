"""The command line killed in the middle of an epoch: the next run goes on and gives the same model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

PROJECT = """
schema = 1
name = "killed"
[model]
source = "model.onnx"
[data]
reader = "npz"
path = "samples.npz"
[data.calibration]
rows = "0:16"
[data.tune]
rows = "16:32"
[data.test]
rows = "32:48"
[data.train]
rows = "48:4000"
[[targets]]
name = "onnxruntime"
"""
PASS = "fine-tune(epochs=8, batch=8, learning_rate=0.003, fit={augment=[{op=noise}, {op=crop}], validation=0.05})"


def started(folder: Path, cache: str, out: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgewright.cli", "apply", "model.onnx", "--project", "edgewright.toml"]
    environment = {**os.environ, "EDGEWRIGHT_CACHE": str(folder / cache)}
    return subprocess.Popen([*command, "--pass", PASS, "-o", out], cwd=folder, env=environment)


def checkpoint(folder: Path, cache: str) -> tuple[Path, int] | None:
    found = sorted((folder / cache).rglob("training.pt"))
    return (found[0], found[0].stat().st_mtime_ns) if found else None


@pytest.mark.prove
def test_kill_9_of_the_command_line_gives_the_same_model(convolutional, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 4000)
    images = rng.normal(size=(4000, 2, 6, 6)) + np.array([[1, 0], [0, 1], [-1, -1]])[labels][:, :, None, None]
    np.savez(tmp_path / "samples.npz", x=images.astype(np.float32), y=labels)
    ir.save(convolutional(), tmp_path / "model.onnx")
    (tmp_path / "edgewright.toml").write_text(PROJECT)
    assert started(tmp_path, "whole", "whole.onnx").wait() == 0
    for _ in range(2):
        process, before = started(tmp_path, "killed", "killed.onnx"), checkpoint(tmp_path, "killed")
        while checkpoint(tmp_path, "killed") == before:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed.onnx").exists()
    assert started(tmp_path, "killed", "killed.onnx").wait() == 0
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "killed.onnx").read_bytes()
