from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgewright.core.decision import Classification, Detections, Segmentation, Tensors
from edgewright.device.draw import draw, name_of
from edgewright.device.loop import Meter, Result, Tally, confident, results
from edgewright.device.sinks import line_of
from edgewright.device.sources import Frame


class Recorder:
    """Decides the number of calls since the last reset."""

    def __init__(self) -> None:
        self.calls = self.since_reset = 0

    def __call__(self, value: Any) -> Classification:
        self.calls += 1
        self.since_reset += 1
        return Classification((self.since_reset,), (1.0,))

    def reset(self) -> None:
        self.since_reset = 0


def frames(*indices: int) -> list[Frame]:
    return [Frame(str(i), i, None, False) for i in indices]


def test_warm_up_is_neither_counted_nor_remembered() -> None:
    decide, meter, tally = Recorder(), Meter(), Tally()
    found = list(results(decide, frames(0, 1), meter, tally, warmup=5))  # type: ignore[arg-type]
    assert decide.calls == 7
    assert [r.decision.indices for r in found] == [(1,), (2,)]  # type: ignore[union-attr]
    assert meter.frames == 2
    assert tally.decided == {1: 1, 2: 1}


def test_the_meter_counts_time_and_skipped_frames() -> None:
    meter = Meter()
    assert (meter.fps, meter.percentile(95)) == (0.0, 0.0)
    meter.start(now=10.0)
    for number, index in enumerate((0, 1, 4, 5)):
        meter.add(index, ms=float(number + 1), now=10.5 + number / 2)
    assert meter.fps == pytest.approx(4 / 2.0)
    assert meter.skipped == 2
    assert [meter.percentile(p) for p in (1, 50, 95, 100)] == [1.0, 2.0, 4.0, 4.0]


def test_detections_below_the_least_score_are_left_out() -> None:
    boxes = ((0.0, 0.0, 1.0, 1.0), (2.0, 2.0, 3.0, 3.0))
    found = Detections(boxes, (0.9, 0.1), (4, 5))
    assert confident(found, 0.3) == Detections(boxes[:1], (0.9,), (4,))
    assert confident(found, 0.0) == found


def test_the_tally_keeps_the_most_in_one_frame() -> None:
    tally = Tally()
    for count in (1, 3, 2):
        boxes = tuple((10.0 * i, 0.0, 10.0 * i + 5, 5.0) for i in range(count))
        found = Detections(boxes, (0.9,) * count, (7,) * count)
        shown, tracks = tally.add(found)
        assert shown == found
        assert len(tracks) == count
    assert tally.most == {7: 3}
    assert tally.add(Classification((1,), (0.1,)), 0.3) == (Classification((1,), (0.1,)), ())


def test_a_faint_detection_continues_its_track_unseen() -> None:
    tally = Tally()
    box = (0.0, 0.0, 5.0, 5.0)
    for score in (0.9, 0.9, 0.9, *(0.2,) * 30, 0.9):
        shown, tracks = tally.add(Detections((box,), (score,), (7,)), 0.3)
        assert isinstance(shown, Detections)
        assert len(shown.boxes) == len(tracks) == (score > 0.3)
    assert tracks == (1,)
    assert tally.tracker.counts == {7: 1}
    for _ in range(5):
        tally.add(Detections((box,), (0.2,), (8,)), 0.3)
    assert tally.tracker.counts == {7: 1}


def test_a_line_names_labels_and_tracks() -> None:
    decision = Detections(((0.0, 0.0, 1.0, 1.0),), (0.5,), (1,))
    line = line_of(Result(frames(7)[0], decision, (0,), 1.0), ("cat", "dog"))
    assert line["frame"] == "7"
    assert line["labels"] == ["dog"]
    assert line["tracks"] == [0]
    assert line["boxes"] == [[0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("decision", "changed"),
    [
        (Detections(((4.0, 30.0, 60.0, 80.0),), (0.9,), (1,)), True),
        (Detections(((-50.0, -50.0, 500.0, 500.0),), (0.9,), (1,)), True),
        (Classification((1, 0), (0.9, 0.1)), True),
        (Segmentation(np.eye(96, 128, dtype=int)), True),
        (Segmentation(np.ones((3, 3), int)), False),
        (Tensors({"y": np.zeros(3)}), False),
        (Detections((), (), ()), False),
    ],
)
def test_drawing_leaves_the_picture_itself_alone(decision: Any, changed: bool) -> None:
    image = np.full((96, 128, 3), 90, np.uint8)
    drawn = draw(image, decision, ("yes", "größe"))
    assert (image == 90).all()
    assert drawn.shape == image.shape
    assert bool((drawn != image).any()) is changed


def test_a_box_is_drawn_where_it_is() -> None:
    drawn = draw(np.zeros((200, 200, 3), np.uint8), Detections(((50.0, 60.0, 150.0, 160.0),), (0.9,), (0,)), ())
    rows, columns = np.nonzero(drawn[100:].any(axis=2))
    assert columns.min() in (49, 50)
    assert columns.max() in (150, 151)
    assert rows.max() + 100 in (160, 161)


def test_names_of_classes() -> None:
    assert [name_of(i, ("a",)) for i in (-1, 0, 1)] == ["none", "a", "1"]


def test_files_of_this_half_import_nothing_heavy(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, edgewright.cli.run, edgewright.device.session, edgewright.device.sinks, edgewright.bundle.open\n"
        "import edgewright.bundle.verifying, edgewright.bundle\n"
        "names = 'onnx onnx_ir onnxscript torch jinja2 cyclonedx plotly openvino onnxruntime cv2 soundfile'\n"
        "print([n for n in names.split() if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
