"""The loop from frame to decision, timed."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from edgewright.bundle.decide import Decider
from edgewright.core.decision import Classification, Decision, Detections
from edgewright.device.sources import Frame
from edgewright.device.track import Tracker

WARMUP = 3
CONTINUES = 0.5
"""Share of the least score that is enough to continue a track."""

WINDOW = 1000
"""Frames that the live p95 looks back on."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A decision about one frame.

    Attributes:
        frame: What was decided about.
        decision: Detections below the least score are left out.
        tracks: Per detection, the number of the object it belongs to, 0 while that is not sure; empty otherwise.
        ms: Pre-processing, run and post-processing in milliseconds.
    """

    frame: Frame
    decision: Decision
    tracks: tuple[int, ...]
    ms: float


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A frame that nothing could be decided about.

    Attributes:
        frame: The frame.
        message: What is wrong with it.
        hint: What can be done.
        ms: How long it took to find out, in milliseconds.
    """

    frame: Frame
    message: str
    hint: str
    ms: float


@dataclass(slots=True)
class Meter:
    """Frames per second and latency, as they go.

    Attributes:
        frames: Decided so far.
        skipped: Frames of a live source that came and went in between.
        failed: Of the frames, those that nothing could be decided about.
    """

    frames: int = 0
    skipped: int = 0
    failed: int = 0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _start: float | None = None
    _last: float = 0.0
    _next_index: int = 0

    def start(self, now: float | None = None) -> None:
        """Starts the clock: called after warm-up."""
        self._start = time.perf_counter() if now is None else now

    def add(self, index: int, ms: float, now: float | None = None) -> None:
        """Counts a frame: its position in the source and its latency in milliseconds."""
        self.skipped += max(0, index - self._next_index)
        self._next_index = index + 1
        self.frames += 1
        self._recent.append(ms)
        self._last = time.perf_counter() if now is None else now

    @property
    def fps(self) -> float:
        """Frames decided per second of wall-clock time, reading and writing included; 0 before the first."""
        passed = self._last - self._start if self._start is not None and self.frames else 0.0
        return self.frames / passed if passed > 0 else 0.0

    def percentile(self, percent: float) -> float:
        """Returns a percentile (nearest rank) of the latency of the recent frames, in milliseconds; 0 before any."""
        ordered = sorted(self._recent)
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] if ordered else 0.0


@dataclass(slots=True)
class Tally:
    """What was seen so far.

    Attributes:
        most: Class index -> most objects of it in one frame (detection).
        tracker: Counts distinct objects (detection).
        decided: Class index -> frames decided so (classification).
    """

    most: Counter[int] = field(default_factory=Counter)
    decided: Counter[int] = field(default_factory=Counter)
    tracker: Tracker = field(default_factory=Tracker)

    def add(self, decision: Decision, min_score: float = 0.0) -> tuple[Decision, tuple[int, ...]]:
        """Takes the decision about the next frame.

        Returns:
            The decision without detections below `min_score`, and the track of each detection that is left.
        """
        if isinstance(decision, Classification):
            self.decided.update(decision.indices[:1])
        if not isinstance(decision, Detections):
            return decision, ()
        possible = confident(decision, CONTINUES * min_score)
        self.tracker.start_score = min_score
        tracks = self.tracker.update(possible)
        sure = confident(decision, min_score)
        for label, count in Counter(sure.classes).items():
            self.most[label] = max(self.most[label], count)
        # Scores descend, so the sure detections come first.
        return sure, tracks[: len(sure.scores)]


def results(
    decide: Decider,
    frames: Iterable[Frame],
    meter: Meter,
    tally: Tally,
    *,
    min_score: float = 0.0,
    warmup: int = WARMUP,
) -> Iterator[Result]:
    """Decides about every frame.

    Args:
        decide: An opened bundle.
        frames: The source.
        meter: Counts and times; its clock starts after warm-up.
        tally: Counts what is seen.
        min_score: Detections below it are left out.
        warmup: Runs on the first frame that are not counted.
    """
    for frame in frames:
        if meter.frames == 0:
            _warm_up(decide, frame, warmup)
            meter.start()
        before = time.perf_counter()
        decision = decide(frame.value)
        ms = 1e3 * (time.perf_counter() - before)
        meter.add(frame.index, ms)
        shown, tracks = tally.add(decision, min_score)
        yield Result(frame, shown, tracks, ms)


def _warm_up(decide: Decider, frame: Frame, runs: int) -> None:
    for _ in range(runs):
        decide(frame.value)
    decide.reset()


def confident(found: Detections, min_score: float) -> Detections:
    """Returns the detections without those below `min_score`."""
    kept = [i for i, score in enumerate(found.scores) if score >= min_score]
    return Detections(
        tuple(found.boxes[i] for i in kept),
        tuple(found.scores[i] for i in kept),
        tuple(found.classes[i] for i in kept),
    )
