import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewright.pipeline.boxes import overlap, suppress, to_original


def _iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def _brute_force(boxes, scores, classes, iou, limit):
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        if len(kept) < limit and all(classes[i] != classes[k] or _iou(boxes[i], boxes[k]) <= iou for k in kept):
            kept.append(i)
    return kept


_BOX = st.tuples(*[st.integers(0, 20)] * 4).map(lambda t: (t[0], t[1], t[0] + t[2], t[1] + t[3]))
_FOUND = st.lists(st.tuples(_BOX, st.integers(0, 5), st.integers(0, 2)), max_size=25)


@given(_FOUND, st.sampled_from([0.0, 0.25, 0.45, 0.5, 1.0]), st.integers(1, 30))
def test_suppression_equals_brute_force(found, iou, limit):
    boxes = np.array([f[0] for f in found], float).reshape(-1, 4)
    scores = np.array([f[1] for f in found], float)
    classes = np.array([f[2] for f in found], int)
    kept = suppress(boxes, scores, classes, iou, limit)
    assert kept.tolist() == _brute_force(boxes.tolist(), scores.tolist(), classes.tolist(), iou, limit)


@given(_BOX, st.lists(_BOX, min_size=1, max_size=8))
def test_overlap_equals_the_definition(box, others):
    found = overlap(np.array(box, float), np.array(others, float))
    np.testing.assert_allclose(found, [_iou(box, other) for other in others])


def test_boxes_of_other_classes_are_kept():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 9.9]], float)
    kept = suppress(boxes, np.array([0.5, 0.9, 0.8]), np.array([1, 0, 0]), 0.5, 10)
    assert kept.tolist() == [1, 0]


def test_boxes_go_back_to_the_original_and_stay_inside():
    geometry = {"size": (100, 200), "input": (50, 50), "scale": (0.5, 0.25), "pad": (0.0, 10.0)}
    boxes = np.array([[10.0, 0.0, 60.0, 25.0], [-5.0, -5.0, 500.0, 500.0]])
    assert to_original(boxes, geometry).tolist() == [[0, 0, 200, 50], [0, 0, 200, 100]]
    assert to_original(boxes, {}) is boxes
