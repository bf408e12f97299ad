from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.compare import difference, intersection_over_union, tolerance_for
from edgewright.core.decision import Classification, Decision, Detections, Segmentation, Tensors

BOX = (0.0, 0.0, 10.0, 10.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=5, unique_by=lambda p: p[0]))
def test_a_decision_does_not_differ_from_itself(pairs: list[tuple[int, float]]) -> None:
    indices, scores = zip(*pairs, strict=True)
    boxes = tuple((float(i), 0.0, i + 5.0, 5.0) for i in range(len(pairs)))
    for decision in (Classification(indices, scores), Detections(boxes, scores, indices)):
        assert difference(decision, decision) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("expected", "found", "result"),
    [
        (Classification((1, 0), (0.9, 0.1)), Classification((1, 0), (0.8, 0.2)), 0.1),
        # Below the top k of the other side: at most its smallest score.
        (Classification((1, 0), (0.9, 0.1)), Classification((1, 2), (0.9, 0.08)), 0.02),
        (Classification((1,), (0.9,)), Classification((2,), (0.9,)), 0.9),
        (Classification((1,), (0.501,)), Classification((-1,), (0.499,)), 0.002),
        (Classification((1,), (0.9,)), Classification((-1,), (0.3,)), 0.6),
        # Logits: relative to the largest.
        (Classification((1, 0), (20.0, 5.0)), Classification((1, 0), (19.0, 5.0)), 0.05),
        (Classification((), ()), Classification((), ()), 0.0),
        (Classification((1,), (0.5,)), Classification((), ()), float("inf")),
        (Detections((), (), ()), Detections((), (), ()), 0.0),
        (Detections((BOX,), (0.9,), (3,)), Detections((), (), ()), 0.9),
        (Detections((), (), ()), Detections((BOX,), (0.02,), (3,)), 0.02),
        (Detections((BOX,), (0.9,), (3,)), Detections((BOX,), (0.9,), (4,)), 0.9),
        (Detections((BOX,), (0.9,), (3,)), Detections((BOX,), (0.7,), (3,)), 0.2),
        (Detections((BOX,), (0.5,), (3,)), Detections(((0.0, 0.0, 10.0, 9.0),), (0.5,), (3,)), 0.05),
        (Detections((BOX,), (0.5,), (3,)), Detections(((20.0, 0.0, 30.0, 9.0),), (0.4,), (3,)), 0.5),
        (Segmentation(np.zeros((2, 2), int)), Segmentation(np.array([[0, 0], [0, 1]])), 0.25),
        (Segmentation(np.zeros((2, 2), int)), Segmentation(np.zeros((2, 3), int)), float("inf")),
        (Tensors({"y": np.array([1.0, -4.0])}), Tensors({"y": np.array([1.2, -4.0])}), 0.05),
        (Tensors({"y": np.array([np.nan, 2.0])}), Tensors({"y": np.array([np.nan, 2.0])}), 0.0),
        (Tensors({"y": np.array([1.0, 2.0])}), Tensors({"y": np.array([np.nan, 2.0])}), float("inf")),
        (Tensors({"y": np.array([np.inf])}), Tensors({"y": np.array([np.inf])}), 0.0),
        (Tensors({"y": np.zeros(0)}), Tensors({"y": np.zeros(0)}), 0.0),
        (Tensors({"y": np.zeros(2)}), Tensors({"y": np.zeros(3)}), float("inf")),
        (Tensors({"y": np.zeros(2)}), Tensors({"z": np.zeros(2)}), float("inf")),
        (Classification((1,), (0.9,)), Tensors({}), float("inf")),
    ],
)
def test_differences(expected: Decision, found: Decision, result: float) -> None:
    assert difference(expected, found) == pytest.approx(result)


@given(st.lists(st.floats(-100, 100), min_size=8, max_size=8))
def test_overlap_is_symmetric_and_bounded(numbers: list[float]) -> None:
    a, b = sorted_box(numbers[:4]), sorted_box(numbers[4:])
    found = intersection_over_union(a, b)
    assert 0 <= found <= 1 + 1e-9
    assert found == pytest.approx(intersection_over_union(b, a))


def sorted_box(numbers: list[float]) -> Any:
    (x1, x2), (y1, y2) = sorted(numbers[:2]), sorted(numbers[2:])
    return (x1, y1, x2, y2)


def test_coarser_precisions_may_differ_more() -> None:
    order = [tolerance_for(p) for p in ("float32", "float16", "bfloat16", "int8")]
    assert order == sorted(order)
    assert tolerance_for("int8 dynamic") == tolerance_for("int8")
