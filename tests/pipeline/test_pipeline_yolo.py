from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.data import Prepared
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Postprocess, Preprocess
from edgewright.pipeline.yolo import grid_of


def decide(output, geometry=None, **fields):
    op = {"op": "yolo", "style": "yolox", "score": 0.5, **fields}
    return Postprocess.from_spec([op], Path())({"out": np.asarray(output, np.float32)}, Prepared({}, geometry or {}))


def test_the_grid_goes_level_by_level_and_row_by_row():
    cells, strides = grid_of((416, 416), (8, 16, 32))
    assert cells.shape == (3549, 2)
    assert cells[:2].tolist() == [[0, 0], [1, 0]]
    assert cells[52].tolist() == [0, 1]
    assert [strides[i, 0] for i in (0, 2703, 2704, 3379, 3380, 3548)] == [8, 8, 16, 16, 32, 32]
    assert grid_of((32, 64), (32,))[0].tolist() == [[0, 0], [1, 0]]


@settings(deadline=None)
@given(st.integers(0, 83), st.floats(0.1, 60), st.floats(0.1, 60), st.floats(-1, 1), st.floats(-1, 1))
def test_yolox_boxes_are_decoded(anchor, width, height, dx, dy):
    cells, strides = grid_of((64, 64), (8, 16, 32))
    output = np.zeros((84, 5 + 3), np.float32)
    stride = strides[anchor, 0]
    output[anchor] = [dx, dy, np.log(width / stride), np.log(height / stride), 0.8, 0.1, 0.9, 0.2]
    found = decide(output, size=[64, 64])
    assert found.classes == (1,)
    assert found.scores[0] == pytest.approx(0.72)
    x, y = (cells[anchor] + [dx, dy]) * stride
    expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    np.testing.assert_allclose(found.boxes[0], expected, rtol=1e-4, atol=1e-3)


def test_boxes_come_back_in_pixels_of_the_photo():
    photo = np.zeros((50, 100, 3), np.uint8)
    prepared = Preprocess.from_spec([{"op": "letterbox", "size": [64, 64]}], Path())(photo)
    output = np.zeros((84, 6), np.float32)
    output[0] = [2.0, 1.0, 0.0, 0.0, 1.0, 1.0]  # centre (16, 8), 8 x 8, in the model's 64 x 64
    op = {"op": "yolo", "style": "yolox"}
    found = Postprocess.from_spec([op], Path())({"o": output}, prepared)
    np.testing.assert_allclose(found.boxes[0], [12 / 0.64, 4 / 0.64, 20 / 0.64, 12 / 0.64], rtol=1e-6)


def test_yolov8_has_its_classes_first():
    output = np.zeros((4 + 2, 9), np.float32)
    output[:, 3] = [20, 30, 10, 20, 0.1, 0.7]
    output[:, 5] = [20, 30, 10, 20, 0.0, 0.6]
    found = decide(output, style="yolov8")
    assert found.boxes == ((15.0, 20.0, 25.0, 40.0),)
    assert found.classes == (1,)


def test_one_box_may_count_for_several_classes():
    row = [[20, 30, 10, 20, 1.0, 0.9, 0.8, 0.1]]
    assert decide(row, style="yolov5").classes == (0,)
    assert decide(row, style="yolov5", multi_label=True).classes == (0, 1)
    assert decide(row, style="yolov5", multi_label=True, classes=[1]).classes == (1,)


def test_at_most_so_many_boxes_and_the_best_ones():
    rows = [[20 * i, 20, 10, 10, 1.0, 0.5 + i / 100] for i in range(30)]
    found = decide(rows, style="yolov5", max_detections=4)
    assert found.scores == pytest.approx([0.79, 0.78, 0.77, 0.76])


def test_numbers_that_are_none_are_no_boxes():
    rows = np.zeros((84, 6), np.float32)
    rows[0] = [0, 0, 1000, 0, 1, 1]  # exp overflows
    rows[1] = [np.nan, 0, 0, 0, 1, 1]
    rows[2] = [0, 0, 0, 0, np.nan, 1]
    rows[3] = [0, 0, 0, 0, 1, 1]
    assert len(decide(rows, size=[64, 64]).boxes) == 1


def test_nothing_found():
    assert decide(np.zeros((84, 6)), size=[64, 64]).boxes == ()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"\[anchors, 5 \+ classes\]"):
        decide(np.zeros((84, 5)), size=[64, 64])
    with pytest.raises(DataError, match="yolov8"):
        decide(np.zeros((4, 9)), style="yolov8")
    rows = np.ones((84, 6))
    with pytest.raises(ConfigError, match="84"):
        decide(rows, size=[96, 96])
    with pytest.raises(ConfigError, match="anchors"):
        decide(rows)
    with pytest.raises(ConfigError, match="iou"):
        Postprocess.from_spec([{"op": "yolo", "style": "yolox", "iou": 2}], Path())


@pytest.mark.bench
@pytest.mark.slow
def test_yolox_nano_finds_the_pets(bench):
    onnxruntime = pytest.importorskip("onnxruntime")
    ops = [
        {"op": "decode"},
        {"op": "letterbox", "size": [416, 416]},
        {"op": "channel-order", "order": "bgr"},
        {"op": "layout", "order": "chw"},
        {"op": "cast", "dtype": "float32"},
    ]
    preprocess = Preprocess.from_spec(ops, bench)
    postprocess = Postprocess.from_spec([{"op": "yolo", "style": "yolox", "score": 0.3}], bench)
    session = onnxruntime.InferenceSession(str(bench / "yolox_nano" / "yolox_nano.onnx"))
    right = 0
    photos = sorted((bench / "pets" / "images").rglob("*.jpg"))[::9]
    for photo in photos:
        prepared = preprocess(photo)
        (output,) = session.run(None, {session.get_inputs()[0].name: prepared.tensors[""][None]})
        found = postprocess({"output": output[0]}, prepared)
        right += (15 if photo.parent.name == "cats" else 16) in found.classes
    assert right / len(photos) > 0.8
