"""The host process speaks its protocol, answers errors, and keeps standard output clean."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact
from edgewright.core.tensors import TensorSpec
from edgewright.runtimes import host
from edgewright.runtimes._energy import EnergyMeter, open_meter
from edgewright.runtimes.null import MAGIC


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "model.null").write_bytes(MAGIC + b"0" * 64)
    inputs, outputs = (TensorSpec("x", "float32", ("n", 2)),), (TensorSpec("y", "float32", ("n", 3)),)
    made = Artifact("null", "null", "0", ">=0", ("model.null",), inputs, outputs, "float32")
    (folder / "artifact.json").write_bytes(encode_json(made))
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{i}.npz" for i in range(2)]
    for path in paths:
        np.savez(path, x=np.zeros((1, 2), np.float32))
    return [str(path) for path in paths]


def _ask(*requests: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    answers = io.BytesIO()
    text = "".join(json.dumps(request) + "\n" for request in requests)
    status = host.serve(io.BytesIO(text.encode()), answers)
    return status, [json.loads(line) for line in answers.getvalue().splitlines()]


def test_a_conversation(artifact: Path, samples: list[str]) -> None:
    status, (opened, timed, memory, energy, closed) = _ask(
        {"do": "open", "artifact": str(artifact), "inputs": samples, "threads": 1},
        {"do": "time", "runs": 5, "unrecorded": 2},
        {"do": "memory"},
        {"do": "energy"},
        {"do": "close"},
    )
    assert status == 0
    assert opened["load_ms"] > 0
    assert len(timed["ms"]) == 5
    assert min(timed["ms"]) > 0
    assert memory["peak_memory_bytes"] > 2**20
    assert (timed["microjoules"] is not None) == energy["available"]
    assert energy["note"]
    assert closed == {"closed": True}


def test_the_end_of_input_ends_it(artifact: Path, samples: list[str]) -> None:
    assert _ask({"do": "open", "artifact": str(artifact), "inputs": samples, "threads": 1})[0] == 0


def test_errors_are_answered(tmp_path: Path, artifact: Path, samples: list[str]) -> None:
    status, answers = _ask({"do": "open", "artifact": str(tmp_path), "inputs": samples, "threads": 1}, {"do": "memory"})
    assert (status, len(answers)) == (1, 1)
    assert answers[0]["error"] == "Corrupt"
    assert answers[0]["hint"]
    np.savez(samples[0], x=np.zeros((1, 7), np.float32))
    _, answers = _ask({"do": "open", "artifact": str(artifact), "inputs": samples, "threads": 1})
    assert answers[0]["error"] == "DataError"


def test_as_a_process_what_others_print_stays_off_the_protocol() -> None:
    code = (
        "import os, sys\n"
        "from edgewright.runtimes import host\n"
        "serve = host.serve\n"
        "def noisy(requests, answers):\n"
        "    os.write(1, b'a native library talks\\n'); print('so does Python')\n"
        "    return serve(requests, answers)\n"
        "host.serve = noisy\n"
        "sys.exit(host.main())\n"
    )
    request = '{"do": "memory"}\n{"do": "close"}\n'
    done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True, text=True, check=True)
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["peak_memory_bytes"], ["closed"]]
    assert "a native library talks" in done.stderr


def test_it_imports_no_builder_code_and_no_framework() -> None:
    code = (
        "import sys, edgewright.runtimes.host\n"
        "bad = ['onnx', 'onnx_ir', 'onnxruntime', 'openvino', 'torch', 'psutil', 'cv2', 'edgewright.engine',"
        " 'edgewright.graph', 'edgewright.measure', 'edgewright.data']\n"
        "print([name for name in bad if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _zone(root: Path, name: str, count: str, wraps_at: int = 1000) -> Path:
    zone = root / name
    zone.mkdir(parents=True)
    (zone / "energy_uj").write_text(f"{count}\n")
    (zone / "max_energy_range_uj").write_text(f"{wraps_at}\n")
    return zone


def test_energy_adds_packages_and_survives_wrap_around(tmp_path: Path) -> None:
    first, second = _zone(tmp_path, "intel-rapl:0", "900"), _zone(tmp_path, "intel-rapl:1", "10")
    _zone(tmp_path, "intel-rapl:0:0", "5")  # a part of package 0, not to be counted twice
    meter = open_meter(tmp_path)
    before = meter.read()
    (first / "energy_uj").write_text("50")
    (second / "energy_uj").write_text("30")
    assert meter.used(before, meter.read()) == (50 - 900 + 1000) + 20
    assert "whole processor package" in meter.note


def test_energy_that_is_absent_or_unreadable_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_meter(tmp_path / "none") == EnergyMeter((), "no RAPL energy counter on this machine")
    _zone(tmp_path, "intel-rapl:0", "not a number")
    assert "cannot be read" in open_meter(tmp_path).note

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "chmod a+r" in open_meter(tmp_path).note
