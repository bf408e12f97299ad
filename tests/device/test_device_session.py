import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgewright.device.session import ClassCount, RunConfig, run_bundle
from edgewright.errors import DataError, UsageError


def frames_of(path: Path) -> list[Any]:
    capture = cv2.VideoCapture(str(path))
    found = []
    while (read := capture.read())[0]:
        found.append(read[1])
    capture.release()
    return found


def test_a_video_becomes_an_annotated_video(detector_bundle: Path, video: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    config = RunConfig(detector_bundle, str(video(12)), str(out), cache=tmp_path / "cache")
    summary = run_bundle(config)
    assert summary.frames == 12
    assert summary.classes == (ClassCount("square", most=1, distinct=1),)
    assert summary.fps > 0
    assert 0 < summary.p50_ms <= summary.p95_ms
    written, read = frames_of(out), frames_of(tmp_path / "in.mp4")
    assert len(written) == 12
    assert written[0].shape == (96, 128, 3)
    # The box is drawn around the square, in colour on black and white.
    colour = np.ptp(written[5].astype(int), axis=2).max()
    assert colour > 60
    assert np.ptp(read[5].astype(int), axis=2).max() < 30
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "in.mp4", "out.mp4"]


def test_json_lines_hold_every_decision(detector_bundle: Path, video: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run_bundle(RunConfig(detector_bundle, str(video(5)), str(out), cache=tmp_path / "cache"))
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(5))
    assert lines[4]["labels"] == ["square"]
    assert lines[4]["tracks"] == [1]
    assert np.allclose(lines[4]["boxes"], [[32, 32, 48, 48]], atol=1)


def test_a_folder_of_arrays_is_classified(classifier_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i, value in enumerate(np.random.default_rng(1).normal(size=(5, 4))):
        np.save(tmp_path / "in" / f"{i}.npy", value)
    stdout = io.StringIO()
    config = RunConfig(classifier_bundle, str(tmp_path / "in"), "-", limit=4, cache=tmp_path / "cache")
    summary = run_bundle(config, stdout=stdout)
    lines = [json.loads(line) for line in stdout.getvalue().splitlines()]
    assert [line["frame"] for line in lines] == ["0.npy", "1.npy", "2.npy", "3.npy"]
    assert all(sum(line["scores"]) == pytest.approx(1) for line in lines)
    assert sum(seen.frames for seen in summary.classes) == 4


def test_pictures_of_several_sizes_become_one_video(
    detector_bundle: Path, tmp_path: Path, bright_square: Callable[..., Any]
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), bright_square(32)[:95, :127])
    cv2.imwrite(str(tmp_path / "in" / "b.jpg"), cv2.resize(bright_square(32), (300, 500)))
    np.save(tmp_path / "in" / "c.npy", bright_square(0)[..., :1].squeeze())
    out = tmp_path / "out.mp4"
    run_bundle(RunConfig(detector_bundle, str(tmp_path / "in"), str(out), cache=tmp_path / "cache", limit=2))
    assert [f.shape for f in frames_of(out)] == [(94, 126, 3)] * 2


def test_the_least_score_and_the_show_callback(
    detector_bundle: Path, video: Callable[..., Path], tmp_path: Path
) -> None:
    config = RunConfig(detector_bundle, str(video(4)), cache=tmp_path / "cache", min_score=1.1)
    shown: list[int] = []
    assert run_bundle(config, show=lambda meter: shown.append(meter.frames)).classes == ()
    assert shown == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"output": "out.avi"}, UsageError, "unknown kind of output"),
        ({"output": "no/such/folder/out.mp4"}, UsageError, "its folder does not exist"),
        ({"source": "missing"}, UsageError, "no such source"),
        ({"limit": 0}, UsageError, "at least 1"),
        ({"output": "out.mp4"}, UsageError, "is no picture"),
    ],
)
def test_bad_requests(
    classifier_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, error: Any, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.zeros(4))
    config = replace(RunConfig(classifier_bundle, "a.npy", cache=tmp_path / "cache"), **change)
    with pytest.raises(error, match=text):
        run_bundle(config)
    assert {p.name for p in tmp_path.iterdir()} <= {"a.npy", "cache"}


def test_a_sample_that_does_not_fit_is_a_data_error(classifier_bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(5))
    with pytest.raises(DataError):
        run_bundle(RunConfig(classifier_bundle, str(tmp_path / "a.npy"), cache=tmp_path / "cache"))
