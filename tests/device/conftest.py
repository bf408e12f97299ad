"""The small bundles of `tests/bundle`, and a video of a bright square."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FILE = Path(__file__).parents[1] / "bundle" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tiny_bundles_for_device", _FILE)
assert _SPEC is not None
assert _SPEC.loader is not None
tiny = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = tiny
_SPEC.loader.exec_module(tiny)

classifier, classifier_bundle = tiny.classifier, tiny.classifier_bundle
detector, detector_bundle = tiny.detector, tiny.detector_bundle
FPS = 20.0


@pytest.fixture
def bright_square() -> Callable[..., Any]:
    return tiny.bright_square  # type: ignore[no-any-return]


@pytest.fixture
def video(tmp_path: Path) -> Callable[..., Path]:
    """Writes a video of as many frames as asked for, a square in cell (2, 2)."""

    def write(frames: int, name: str = "in.mp4") -> Path:
        import cv2

        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (128, 96))
        for _ in range(frames):
            writer.write(tiny.bright_square(32))
        writer.release()
        return path

    return write
