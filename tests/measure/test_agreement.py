"""Agreement with the original, and what counts as a changed decision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.core.decision import Classification, Decision, Detections, Segmentation, Tensors
from edgewright.errors import DataError
from edgewright.measure.metrics.agreement import DISPLAY_SCORE, Agreement, changed

BOX = (0.0, 0.0, 10.0, 10.0)
MOVED = (1.0, 0.0, 11.0, 10.0)
FAR = (50.0, 50.0, 60.0, 60.0)


def _found(*objects: tuple[tuple[float, float, float, float], float, int]) -> Detections:
    return Detections(tuple(o[0] for o in objects), tuple(o[1] for o in objects), tuple(o[2] for o in objects))


CASES: list[tuple[Decision, Decision, list[float], bool]] = [
    (Classification((1, 0), (0.9, 0.1)), Classification((1,), (0.6,)), [1.0, 1.0], False),
    (Classification((1,), (0.9,)), Classification((0,), (0.6,)), [0.0, 1.0], True),
    (_found((BOX, 0.9, 1)), _found((MOVED, 0.5, 1)), [2.0, 2.0], False),
    (_found((BOX, 0.9, 1)), _found((MOVED, 0.5, 2)), [0.0, 2.0], True),
    (_found((BOX, 0.9, 1)), _found((BOX, 0.9, 1), (FAR, 0.5, 1)), [2.0, 3.0], True),
    (_found((BOX, 0.9, 1)), _found((BOX, 0.9, 1), (FAR, DISPLAY_SCORE - 0.01, 1)), [2.0, 2.0], False),
    (_found((BOX, 0.9, 1), (MOVED, 0.8, 1)), _found((BOX, 0.9, 1)), [2.0, 3.0], True),
    (_found(), _found(), [0.0, 0.0], False),
    (Segmentation(np.zeros((10, 10))), Segmentation(np.zeros((10, 10))), [1.0, 1.0], False),
    (Segmentation(np.zeros((2, 2))), Segmentation(np.eye(2)), [0.5, 1.0], True),
    (Tensors({"y": np.array([3.0, 4.0])}), Tensors({"y": np.array([3.0, 4.3])}), [0.9995, 1.0], False),
    (Tensors({"y": np.array([3.0, 4.0])}), Tensors({"y": np.array([4.0, 3.0])}), [0.96, 1.0], True),
    (Tensors({"y": np.zeros(2)}), Tensors({"y": np.zeros(2)}), [1.0, 1.0], False),
]


@pytest.mark.parametrize(("decision", "reference", "contribution", "differs"), CASES)
def test_kinds(decision: Decision, reference: Decision, contribution: list[float], differs: bool) -> None:
    assert Agreement().contribution(decision, reference) == pytest.approx(contribution, abs=1e-4)
    assert changed(decision, reference) is differs


def test_detections_pool_into_one_f1() -> None:
    metric = Agreement()
    # One image with 1 of 1 found, one with 1 true, 1 extra: F1 = 2 * 2 / (2 + 3).
    assert metric.reduce([[2.0, 2.0], [2.0, 3.0]]) == pytest.approx(0.8)
    assert metric.reduce([[0.0, 0.0]]) == 1.0
    assert metric.hits([[2.0, 2.0]]) is None
    assert metric.hits([[1.0, 1.0], [0.0, 1.0]]).tolist() == [True, False]  # type: ignore[union-attr]


def test_different_kinds_are_refused() -> None:
    with pytest.raises(DataError, match="the original decided detections, the candidate classification"):
        changed(Classification((0,), (1.0,)), _found())


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.3, 1.0), st.integers(0, 1)), max_size=6))
def test_a_decision_agrees_with_itself(objects: list[tuple[int, float, int]]) -> None:
    placed = _found(*[((20.0 * p, 0.0, 20.0 * p + 10, 10.0), s, c) for p, s, c in objects])
    shared, total = Agreement().contribution(placed, placed)
    assert shared == total
    assert not changed(placed, placed)
