import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

START = "import sys; from edgewright.cli.main import main; main()"


@pytest.fixture
def long_video(tmp_path: Path, bright_square: Callable[..., Any]) -> Path:
    """Twenty seconds at 20 frames per second."""
    path = tmp_path / "in.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20, (128, 96))
    for _ in range(400):
        writer.write(bright_square(32))
    writer.release()
    return path


def start(tmp_path: Path, *arguments: object) -> "subprocess.Popen[str]":
    environment = {**os.environ, "EDGEWRIGHT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", START, "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(path: Path, size: int) -> None:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.stat().st_size >= size):
        assert time.monotonic() < deadline, f"{path} did not grow"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_playable_video(
    detector_bundle: Path, long_video: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out.mp4"
    process = start(tmp_path, detector_bundle, "--source", long_video, "--realtime", "--output", out, "--json")
    wait_for(tmp_path / ".out.partial.mp4", 1)
    time.sleep(0.5)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    summary = json.loads(stdout)["summary"]
    assert summary["stopped"]
    capture = cv2.VideoCapture(str(out))
    count = 0
    while capture.read()[0]:
        count += 1
    assert 0 < count == summary["frames"] < 400
    assert not (tmp_path / ".out.partial.mp4").exists()


@pytest.mark.slow
def test_an_interrupt_leaves_whole_lines(detector_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    process = start(tmp_path, detector_bundle, "--source", long_video, "--realtime", "--output", out)
    wait_for(out, 500)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 0, stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert out.read_text().endswith("\n")
    assert 0 < len(lines) < 400
    assert "(stopped)" in stdout


@pytest.mark.slow
def test_lines_on_the_screen_are_only_json(detector_bundle: Path, long_video: Path, tmp_path: Path) -> None:
    process = start(
        tmp_path, detector_bundle, "--source", long_video, "--output", "-", "--limit", 3, "--json", "--show-fps"
    )
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert [line.get("index") for line in lines] == [0, 1, 2, None]
    assert lines[3]["summary"]["classes"][0] == {"label": "square", "frames": 0, "most": 1, "distinct": 1}
    assert "FPS, p95" in stderr


@pytest.mark.slow
def test_help_comes_at_once() -> None:
    command = [sys.executable, "-c", START, "run", "--help"]
    times = []
    for _ in range(3):
        before = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - before)
    assert "--source" in done.stdout
    assert min(times) < 0.8
