import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.core.decision import Detections
from edgewright.device.track import Tracker


def seen(*boxes: tuple[float, float], label: int = 0) -> Detections:
    placed = tuple((x, y, x + 20.0, y + 40.0) for x, y in boxes)
    return Detections(placed, (0.9,) * len(boxes), (label,) * len(boxes))


def test_one_moving_object_is_one_object() -> None:
    tracker = Tracker()
    ids = [tracker.update(seen((5.0 * step, 0.0))) for step in range(30)]
    assert ids == [(0,), (0,)] + [(1,)] * 28
    assert tracker.counts == {0: 1}


def test_a_gap_is_bridged_where_the_object_should_be() -> None:
    tracker = Tracker(max_missed=15)
    for step in range(10):
        tracker.update(seen((5.0 * step, 0.0)))
    for _ in range(8):  # 40 pixels further, twice its width
        tracker.update(seen())
    assert tracker.update(seen((5.0 * 18, 0.0))) == (1,)
    assert tracker.counts == {0: 1}


def test_the_next_one_after_a_long_gap_is_another() -> None:
    tracker = Tracker(max_missed=5)
    for _ in range(2):
        for step in range(10):
            tracker.update(seen((5.0 * step, 0.0)))
        for _ in range(7):
            tracker.update(seen())
    assert tracker.counts == {0: 2}


def test_a_single_false_detection_is_nothing() -> None:
    tracker = Tracker()
    for step in range(12):
        tracker.update(seen((0.0, 0.0)) if step % 4 == 0 else seen())
    assert not tracker.counts


def test_two_that_cross_stay_two() -> None:
    tracker = Tracker()
    for step in range(30):
        tracker.update(seen((5.0 * step, 0.0), (145.0 - 5.0 * step, 10.0)))
    assert tracker.counts == {0: 2}


def test_classes_are_counted_apart() -> None:
    tracker = Tracker()
    for _ in range(4):
        both = seen((0.0, 0.0), (0.0, 0.0))
        tracker.update(Detections(both.boxes, both.scores, (0, 1)))
    assert tracker.counts == {0: 1, 1: 1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=4), max_size=12), st.integers(0, 9))
def test_ids_are_distinct_in_a_frame_and_bounded_by_what_was_seen(
    frames: list[list[tuple[int, int]]], seed: int
) -> None:
    tracker, rng = Tracker(min_hits=1), np.random.default_rng(seed)
    total = 0
    for frame in frames:
        ids = tracker.update(seen(*((20.0 * x + rng.uniform(), 40.0 * y) for x, y in frame)))
        assert len(set(ids)) == len(ids) == len(frame)
        total += len(frame)
    assert tracker.counts.total() <= total
