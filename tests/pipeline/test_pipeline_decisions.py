from pathlib import Path

import numpy as np
import pytest

from edgewright.core.data import Prepared
from edgewright.core.decision import Classification, Detections, Segmentation, Tensors
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Postprocess, Preprocess


def decide(outputs, *ops, geometry=None):
    if not isinstance(outputs, dict):
        outputs = {"out": np.asarray(outputs)}
    return Postprocess.from_spec(ops, Path())(outputs, Prepared({}, geometry or {}))


def test_softmax_decides_by_top_k():
    found = decide([1.0, 3.0, 2.0], {"op": "softmax"})
    assert isinstance(found, Classification)
    assert found.indices == (1, 2, 0)
    assert sum(found.scores) == pytest.approx(1.0)
    assert found.scores[0] == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum())


def test_softmax_of_large_logits_and_temperature():
    assert decide([1e4, 0.0], {"op": "softmax"}).scores == (1.0, 0.0)
    soft = decide([2.0, 0.0], {"op": "softmax", "temperature": 2.0})
    assert soft.scores[0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_top_k_orders_and_breaks_ties_by_index():
    found = decide(np.array([[0.1, 0.4, 0.4, 0.05]]), {"op": "top-k", "k": 3})
    assert found == Classification((1, 2, 0), (0.4, 0.4, 0.1))
    assert decide(np.arange(9.0), {"op": "top-k", "k": 0}).indices == tuple(range(8, -1, -1))
    assert len(decide(np.arange(9.0), {"op": "top-k"}).indices) == 5


def test_one_score_is_that_of_class_one():
    found = decide([0.75], {"op": "top-k"})
    assert found == Classification((1, 0), (0.75, 0.25))
    assert decide([-2.0], {"op": "sigmoid"}).indices == (0, 1)
    assert decide([1000.0], {"op": "sigmoid"}).scores == (1.0, 0.0)


def test_scores_that_are_no_numbers_decide_for_none():
    assert decide([0.1, np.nan], {"op": "top-k"}).indices == (-1,)
    assert decide([np.nan, 1.0], {"op": "softmax"}).indices == (-1,)


def test_threshold():
    assert decide([0.6, 0.4], {"op": "top-k"}, {"op": "threshold", "score": 0.5}) == Classification((0,), (0.6,))
    assert decide([0.6, 0.4], {"op": "threshold", "score": 0.7}) == Classification((-1,), (0.6,))


def test_no_operations_give_the_outputs():
    found = decide({"a": np.zeros(2), "b": np.ones(3)})
    assert isinstance(found, Tensors)
    assert sorted(found.values) == ["a", "b"]
    assert list(decide({"a": np.zeros(2), "b": np.ones(3)}, {"op": "raw", "outputs": ["b"]}).values) == ["b"]


def test_an_output_is_chosen_by_name():
    outputs = {"a": np.array([1.0, 0.0]), "b": np.array([0.0, 1.0])}
    assert decide(outputs, {"op": "softmax", "output": "b"}).indices[0] == 1
    with pytest.raises(ConfigError, match="2 outputs") as caught:
        decide(outputs, {"op": "softmax"})
    assert "a, b" in caught.value.hint
    with pytest.raises(ConfigError, match='no output "c"'):
        decide(outputs, {"op": "softmax", "output": "c"})


def test_a_map_of_scores_is_no_classification():
    with pytest.raises(DataError, match=r"postprocess\[0\].*\[3, 4\]"):
        decide(np.zeros((3, 4)), {"op": "softmax"})


def test_smoothing_averages_and_forgets_on_reset():
    post = Postprocess.from_spec([{"op": "smooth", "window": 3}], Path())
    nothing = Prepared({}, {})
    stream = [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    found = [post({"o": scores}, nothing) for scores in stream]
    assert post.stateful
    assert [f.indices[0] for f in found] == [0, 0, 1, 1]
    assert found[2].scores == pytest.approx((2 / 3, 1 / 3))
    assert found[3].scores == pytest.approx((1.0, 0.0))
    post.reset()
    assert post({"o": stream[0]}, nothing).scores == (1.0, 0.0)
    other = Postprocess.from_spec([{"op": "smooth", "window": 3}], Path())
    assert other({"o": stream[1]}, nothing).indices[0] == 1


def test_suppression_reports_an_event_once():
    ops = [{"op": "top-k", "k": 1}, {"op": "suppress", "samples": 2, "background": [0]}]
    post = Postprocess.from_spec(ops, Path())
    stream = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    found = [post({"o": np.array(s, float)}, Prepared({}, {})).indices[0] for s in stream]
    assert found == [0, 1, -1, 0, 2]


def test_suppress_needs_a_classification():
    with pytest.raises(ConfigError, match="nothing has been decided"):
        decide([0.1, 0.9], {"op": "suppress", "samples": 2})


def test_mask_in_the_original_image():
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, 40:] = 255
    prepared = Preprocess.from_spec([{"op": "letterbox", "size": [32, 32], "anchor": "centre"}], Path())(image)
    boxed = prepared.tensors[""][::4, ::4, 0] / 255.0  # a "model" that answers at a quarter of the resolution
    scores = np.stack([np.full_like(boxed, 0.5), boxed])
    found = Postprocess.from_spec([{"op": "argmax-mask"}], Path())({"o": scores}, prepared)
    assert isinstance(found, Segmentation)
    assert found.mask.shape == (40, 80)
    assert np.array_equal(found.mask == 1, image[:, :, 0] == 255)
    last = Postprocess.from_spec([{"op": "argmax-mask", "layout": "hwc"}], Path())
    assert np.array_equal(last({"o": scores.transpose(1, 2, 0)}, prepared).mask, found.mask)


def test_mask_needs_scores_per_pixel():
    with pytest.raises(DataError, match="argmax-mask"):
        decide(np.zeros((4, 4)), {"op": "argmax-mask"})
    assert decide(np.zeros((2, 4, 4)), {"op": "argmax-mask"}).mask.shape == (4, 4)


def test_threshold_on_boxes():
    row = [10, 10, 4, 4, 1.0, 0.9, 0.0]
    weak = [30, 30, 4, 4, 1.0, 0.0, 0.4]
    yolo = {"op": "yolo", "style": "yolov5", "score": 0.1}
    both = decide([row, weak], yolo)
    assert isinstance(both, Detections)
    assert both.classes == (0, 1)
    strong = decide([row, weak], yolo, {"op": "threshold", "score": 0.5})
    assert strong.classes == (0,)
    assert strong.boxes == ((8.0, 8.0, 12.0, 12.0),)
