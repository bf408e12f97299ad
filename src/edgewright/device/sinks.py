"""Where decisions go: JSON lines or an annotated video."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.raw import IMAGES
from edgewright.core.decision import decision_to_json
from edgewright.device.draw import draw, name_of
from edgewright.device.loop import Failure, Result
from edgewright.errors import DataError, StepFailed, ToolchainMissing, UsageError
from edgewright.store.files import full_disk_explained

LINES = (".jsonl", ".ndjson")
VIDEO = ".mp4"


class Sink(Protocol):
    """Takes results, one by one."""

    def write(self, result: Result) -> None:
        """Writes one result; what was written stays readable whatever happens next."""

    def fail(self, failure: Failure) -> None:
        """Writes down that nothing could be decided about a frame, where the output has a place for it."""


def open_sink(output: str | None, labels: Sequence[str], fps: float, stdout: TextIO) -> AbstractContextManager[Sink]:
    """Opens an output.

    Args:
        output: `-` for JSON lines on `stdout`, a `.jsonl` or `.mp4` file, or None for nothing.
        labels: Class names.
        fps: Frames per second of a video.
        stdout: Where `-` goes.

    Raises:
        UsageError: The suffix is unknown or its folder is missing.
    """
    if output is None:
        return _nothing()
    if output == "-":
        return _lines(stdout, labels)
    path = Path(output)
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist", hint=f"mkdir -p {path.parent}")
    if path.suffix.lower() in LINES:
        return _lines_file(path, labels)
    if path.suffix.lower() == VIDEO:
        return _video_file(path, labels, fps)
    raise UsageError(f"{path}: unknown kind of output", hint="end it in .jsonl or .mp4, or write - for the screen")


def line_of(result: Result, labels: Sequence[str]) -> dict[str, Any]:
    """Returns a result as a JSON-able mapping."""
    line: dict[str, Any] = {"frame": result.frame.id, "index": result.frame.index, "ms": round(result.ms, 3)}
    line |= decision_to_json(result.decision)
    indices = line.get("classes", line.get("indices"))
    if indices is not None and labels:
        line["labels"] = [name_of(index, labels) for index in indices]
    if result.tracks:
        line["tracks"] = list(result.tracks)
    return line


class _Lines:
    def __init__(self, stream: TextIO, labels: Sequence[str]) -> None:
        self._stream, self._labels = stream, labels

    def write(self, result: Result) -> None:
        self._put(line_of(result, self._labels))

    def fail(self, failure: Failure) -> None:
        frame, told = failure.frame, {"error": failure.message, "hint": failure.hint}
        self._put({"frame": frame.id, "index": frame.index, "ms": round(failure.ms, 3), **told})

    def _put(self, line: dict[str, Any]) -> None:
        self._stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._stream.flush()


class _Nothing:
    def write(self, result: Result) -> None:
        pass

    def fail(self, failure: Failure) -> None:
        pass


@contextmanager
def _nothing() -> Iterator[Sink]:
    yield _Nothing()


@contextmanager
def _lines(stream: TextIO, labels: Sequence[str]) -> Iterator[Sink]:
    yield _Lines(stream, labels)


@contextmanager
def _lines_file(path: Path, labels: Sequence[str]) -> Iterator[Sink]:
    with full_disk_explained(path.parent), path.open("w", encoding="utf-8") as stream:
        yield _Lines(stream, labels)


@contextmanager
def _video_file(path: Path, labels: Sequence[str], fps: float) -> Iterator[Sink]:
    """Writes to another name first: an MP4 without its index, which comes last, cannot be played."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    sink = VideoSink(partial, labels, fps)
    try:
        yield sink
    finally:
        sink.close()
        if partial.exists():
            partial.replace(path)


class VideoSink:
    """Annotated frames as MPEG-4; all frames get the size of the first."""

    def __init__(self, path: Path, labels: Sequence[str], fps: float) -> None:
        self._path, self._labels, self._fps = path, labels, fps
        self._writer: Any = None
        self._size = (0, 0)

    def write(self, result: Result) -> None:
        import cv2

        if not result.frame.is_image:
            raise UsageError(f"{result.frame.id} is no picture: a video cannot show it", hint="use --output out.jsonl")
        picture = draw(picture_of(result), result.decision, self._labels, result.tracks)
        if self._writer is None:
            self._open(picture)
        fitted = _fit(picture, self._size)
        self._writer.write(cv2.cvtColor(fitted, cv2.COLOR_RGB2BGR))

    def fail(self, failure: Failure) -> None:
        """A video has no place for a frame without a decision."""

    def close(self) -> None:
        """Finishes the file."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, picture: NDArray[Any]) -> None:
        import cv2

        # MPEG-4 stores colour at half size, so both sides must be even.
        self._size = (picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2)
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(self._path), code, self._fps, self._size)
        if not self._writer.isOpened():
            raise StepFailed(f"{self._path}: the video cannot be written", hint="check the folder's rights and space")


def picture_of(result: Result) -> NDArray[Any]:
    """Returns the frame as RGB uint8 [height, width, 3].

    Raises:
        DataError: It cannot be decoded.
        ToolchainMissing: OpenCV is not installed.
    """
    value = result.frame.value
    if isinstance(value, np.ndarray):
        image = value.reshape(*value.shape[:2], -1)
        return np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    try:
        import cv2
    except ImportError as error:
        raise ToolchainMissing(f"drawing needs OpenCV: {error}", hint='pip install "edgewright[image]"') from error
    decoded = cv2.imdecode(np.frombuffer(value, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise DataError(f"{result.frame.id}: not an image ({', '.join(IMAGES)})", hint="replace or remove the file")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _fit(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Scales a picture to fit into `size` (width, height), the rest black."""
    import cv2

    height, width = picture.shape[:2]
    if (width, height) == size:
        return picture
    scale = min(size[0] / width, size[1] / height)
    fitted = cv2.resize(picture, (max(1, round(width * scale)), max(1, round(height * scale))))[: size[1], : size[0]]
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas[: fitted.shape[0], : fitted.shape[1]] = fitted
    return canvas
