"""Where raw inputs come from on a device: a folder of files, a video file, a camera.

A file source gives every frame in order. A camera, and a video opened as if it were live, is read by its own thread
which always holds the latest frame only: a slow model then skips frames and never falls behind the present.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewright.bundle.raw import IMAGES, SUFFIXES, read_raw
from edgewright.errors import DataError, ToolchainMissing, UsageError

VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
FOLDER_FPS = 10.0
"""Frames per second of a video made from still files."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One raw input.

    Attributes:
        id: File name, or the number of the frame in its video.
        index: Position in the source, counting frames that were skipped.
        value: What pre-processing takes: encoded bytes, an array (RGB uint8 [height, width, 3] for video), text.
        is_image: Whether `value` can be drawn on.
    """

    id: str
    index: int
    value: Any
    is_image: bool


class Source(Protocol):
    """An open source.

    Attributes:
        fps: Frames per second at which it was recorded, or is best played.
        frames: Number of frames, None where nobody knows.
    """

    fps: float
    frames: int | None

    def __iter__(self) -> Iterator[Frame]: ...


def open_source(
    source: str, *, realtime: bool = False, stop: threading.Event | None = None
) -> AbstractContextManager[Source]:
    """Opens a folder, a file or a camera.

    Args:
        source: Folder of images, sounds, `.npy` or text files; one such file; a video file; or a camera, by index
            or as `/dev/videoN`.
        realtime: Play a video at its own speed and skip what the model is too slow for. Cameras always do.
        stop: When set, waiting for a camera's next frame ends.

    Raises:
        UsageError: There is no such source, or it cannot be opened.
        ToolchainMissing: A video or camera needs OpenCV, which is not installed.
    """
    if re.fullmatch(r"\d+|/dev/video\d+", source):
        return _open_video(source, live=True, camera=True, stop=stop)
    path = Path(source)
    if path.is_file() and path.suffix.lower() in VIDEOS:
        return _open_video(source, live=realtime, camera=False, stop=stop)
    return _open_files(path)


def still_files(path: Path) -> list[Path]:
    """Returns the files of a folder that can be read as raw inputs, sorted, or the one file given.

    Raises:
        UsageError: There is nothing to read.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such source", hint="give a folder, a video file or a camera number")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    known = [p for p in files if p.suffix.lower() in SUFFIXES]
    if not known:
        hint = f"known files: {' '.join((*SUFFIXES, *VIDEOS))}"
        raise UsageError(f"{path}: holds no file that can be read, of {len(files)} files", hint=hint)
    return known


class _Files:
    """Every file of a folder, in order."""

    fps = FOLDER_FPS

    def __init__(self, root: Path) -> None:
        self._root, self._paths = root, still_files(root)
        self.frames: int | None = len(self._paths)

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._paths):
            id = path.name if path == self._root else path.relative_to(self._root).as_posix()
            value = read_raw(path)
            drawable = path.suffix.lower() in IMAGES or (path.suffix.lower() == ".npy" and _is_picture(value))
            yield Frame(id, index, value, drawable)


@contextmanager
def _open_files(path: Path) -> Iterator[Source]:
    yield _Files(path)


def _is_picture(value: NDArray[Any]) -> bool:
    picture = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (1, 3))
    return picture and value.dtype == "uint8" and min(value.shape[:2]) >= 8


@contextmanager
def _open_video(source: str, *, live: bool, camera: bool, stop: threading.Event | None) -> Iterator[Source]:
    capture = _capture(source, camera)
    try:
        video = _Video(capture, camera)
        if not live:
            yield video
            return
        with closing(LatestFrame(video, 0.0 if camera else video.fps, stop)) as latest:
            yield latest
    finally:
        capture.release()


def _capture(source: str, camera: bool) -> Any:
    try:
        import cv2
    except ImportError as error:
        message = f"{source}: reading videos and cameras needs OpenCV: {error}"
        raise ToolchainMissing(message, hint='pip install "edgewright[image]"') from error
    name: str | int = int(source.removeprefix("/dev/video")) if camera else source
    # Its own complaints say less than ours; -8 is AV_LOG_QUIET.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(name)
    if not capture.isOpened():
        hint = "check the camera's number and your rights on it" if camera else "check the file, or convert it to H.264"
        raise UsageError(f"{source}: the {'camera' if camera else 'video'} cannot be opened", hint=hint)
    return capture


class _Video:
    """Every frame of a capture, in order."""

    def __init__(self, capture: Any, camera: bool) -> None:
        import cv2

        self._capture = capture
        fps, count = float(capture.get(cv2.CAP_PROP_FPS)), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.fps = fps if 0 < fps <= 1000 else 30.0
        self.frames: int | None = count if count > 0 and not camera else None

    def __iter__(self) -> Iterator[Frame]:
        import cv2

        index = 0
        while True:
            found, image = self._capture.read()
            if not found:
                break
            yield Frame(str(index), index, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), True)
            index += 1
        if not index:
            raise DataError("the video has no frame that can be decoded", hint="check the file or the camera")


class LatestFrame:
    """Reads a source in a thread and gives only the newest frame; what comes in between is skipped.

    Args:
        source: Read until it ends or `close` is called.
        pace: Frames per second to hold a file source to; 0 when the source itself waits, as a camera does.
        stop: When set, waiting for the next frame ends.
    """

    def __init__(self, source: Source, pace: float = 0.0, stop: threading.Event | None = None) -> None:
        self.fps, self.frames = source.fps, source.frames
        self._source, self._pace, self._stop = source, pace, stop or threading.Event()
        self._changed = threading.Condition()
        self._latest: Frame | None = None
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="edgewright-source", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while True:
            with self._changed:
                while self._latest is None and not self._ended and not self._stop.is_set():
                    self._changed.wait(timeout=0.2)
                frame, self._latest = self._latest, None
                if frame is None:
                    if self._error is not None:
                        raise self._error
                    return
            yield frame

    def close(self) -> None:
        """Stops the thread; waits for the frame in work."""
        with self._changed:
            self._ended = True
        self._thread.join(timeout=5.0)

    def _read(self) -> None:
        start = time.monotonic()
        try:
            for frame in self._source:
                if self._pace:
                    time.sleep(max(0.0, start + frame.index / self._pace - time.monotonic()))
                with self._changed:
                    if self._ended:
                        return
                    self._latest = frame
                    self._changed.notify()
        except BaseException as error:
            # Raised again by whoever reads the frames.
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()
