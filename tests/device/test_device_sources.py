import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.device.sources import Frame, LatestFrame, open_source
from edgewright.errors import DataError, UsageError


class Endless:
    """Gives frames as fast as they are taken, until told to end."""

    fps, frames = 30.0, None

    def __init__(self, delay: float, error: Exception | None = None, count: int = 10_000) -> None:
        self.delay, self.error, self.count, self.given = delay, error, count, 0

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            time.sleep(self.delay)
            self.given += 1
            yield Frame(str(index), index, None, False)
        if self.error:
            raise self.error


def test_a_slow_reader_gets_the_newest_frame() -> None:
    source = Endless(0.001)
    latest = LatestFrame(source)
    seen = []
    for frame in latest:
        seen.append(frame.index)
        time.sleep(0.05)
        assert source.given >= frame.index + 1
        if len(seen) == 4:
            break
    latest.close()
    gaps = np.diff(seen)
    assert (gaps > 3).all()
    given = source.given
    time.sleep(0.02)
    assert source.given == given  # the thread has ended


def test_the_last_frame_and_the_error_of_a_source_arrive() -> None:
    latest = LatestFrame(Endless(0.0, DataError("cable pulled", hint=""), count=3))
    time.sleep(0.05)
    with pytest.raises(DataError, match="cable pulled"):
        assert [frame.index for frame in latest] == [2]
    assert [f.index for f in LatestFrame(Endless(0.02, count=3))] == [0, 1, 2]


def test_waiting_for_a_frame_that_never_comes_can_be_stopped() -> None:
    stop = threading.Event()
    latest = LatestFrame(Endless(3.0), stop=stop)
    threading.Timer(0.1, stop.set).start()
    start = time.monotonic()
    assert list(latest) == []
    assert time.monotonic() - start < 1.5


def test_pace_holds_a_file_to_its_own_speed() -> None:
    start = time.monotonic()
    frames = list(LatestFrame(Endless(0.0, count=6), pace=50.0))
    assert time.monotonic() - start >= 0.1
    assert frames[-1].index == 5


def test_a_folder_gives_every_file_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros((9, 9), np.uint8))
    np.save(tmp_path / "c.npy", np.zeros(16000, np.int16))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("hello")
    (tmp_path / "notes.md").write_text("not an input")
    with open_source(str(tmp_path)) as source:
        found = list(source)
        assert source.frames == 3
    assert [(f.id, f.index, f.is_image) for f in found] == [
        ("b.npy", 0, True),
        ("c.npy", 1, False),
        ("sub/a.txt", 2, False),
    ]
    with open_source(str(tmp_path / "c.npy")) as source:
        assert [f.id for f in source] == ["c.npy"]


def test_a_video_gives_every_frame_as_rgb(video: Callable[..., Path], bright_square: Callable[..., Any]) -> None:
    with open_source(str(video(12))) as source:
        assert (source.fps, source.frames) == (20.0, 12)
        found = list(source)
    assert [f.index for f in found] == list(range(12))
    error = np.abs(found[5].value.astype(int) - bright_square(32).astype(int))
    assert error.mean() < 4


@pytest.mark.slow
def test_a_video_played_live_skips_frames(video: Callable[..., Path]) -> None:
    seen = []
    with open_source(str(video(20)), realtime=True) as source:
        for frame in source:
            seen.append(frame.index)
            time.sleep(0.2)  # four frames at 20 per second
    assert seen == sorted(seen)
    assert 3 <= len(seen) <= 8


def test_colours_are_not_swapped(tmp_path: Path) -> None:
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "red.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 64))
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 255  # BGR
    for _ in range(3):
        writer.write(red)
    writer.release()
    with open_source(str(tmp_path / "red.mp4")) as source:
        assert next(iter(source)).value.mean(axis=(0, 1)).argmax() == 0


@pytest.mark.parametrize("source", ["missing", "empty", "broken.mp4", "97", "/dev/video97"])
def test_what_cannot_be_opened_is_a_usage_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42 not a video")
    camera = source.isdigit() or source.startswith("/dev")
    with pytest.raises(UsageError, match=source), open_source(source if camera else str(tmp_path / source)):
        pass
