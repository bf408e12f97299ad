"""Micro-batching: samples are gathered for a moment, run together, and leave in the order they came.

A thread reads the source, so that samples arrive while the model runs. A batch is closed when it is full or when its
first sample has waited long enough, whichever comes first. Where samples may be filled up to one length, those that
already wait can be looked over a few batches ahead, so that similar lengths share a run: less of the arithmetic is
spent on filling, and the first of them leave with the last.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from edgewright.bundle.decide import Decider
from edgewright.core.decision import Decision
from edgewright.device.loop import WARMUP, Failure, Meter, Result, Tally
from edgewright.device.sources import Frame
from edgewright.errors import EdgewrightError, UsageError

_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Batching:
    """When a batch is closed.

    Attributes:
        size: Most samples in one run.
        delay_ms: Longest time that a sample waits for others, in milliseconds.
        ahead: Batches of waiting samples that are sorted by length together.
    """

    size: int
    delay_ms: float = 0.0
    ahead: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or self.delay_ms < 0 or self.ahead < 1:
            raise UsageError(
                f"batches of {self.size} after {self.delay_ms:g} ms: expected at least 1 and at least 0",
                hint="e.g. --max-batch 16 --max-delay-ms 5",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A sample and when it came, in seconds of `time.perf_counter`."""

    frame: Frame
    at: float


@dataclass(slots=True)
class Arrivals:
    """Reads a source in a thread and gives what arrived, a batch at a time.

    Attributes:
        source: Read until it ends or `close` is called.
        batching: When a batch is closed.
    """

    source: Iterable[Frame]
    batching: Batching
    _queue: queue.Queue[Arrival | None] = field(init=False)
    _closed: threading.Event = field(default_factory=threading.Event, init=False)
    _ended: bool = field(default=False, init=False)
    _error: BaseException | None = field(default=None, init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._queue = queue.Queue(maxsize=self.batching.size * self.batching.ahead)
        self._thread = threading.Thread(target=self._read, name="edgewright-arrivals", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[list[Arrival]]:
        while not self._ended:
            gathered = self._gathered()
            if gathered:
                yield gathered
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stops reading; waits for the sample in work."""
        self._closed.set()
        self._thread.join(timeout=5.0)

    def _gathered(self) -> list[Arrival]:
        first = self._queue.get()
        if first is None:
            self._ended = True
            return []
        found, until = [first], first.at + self.batching.delay_ms / 1e3
        while len(found) < self.batching.size * self.batching.ahead and not self._ended:
            waits = until - time.perf_counter() if len(found) < self.batching.size else 0.0
            try:
                arrival = self._queue.get(timeout=waits) if waits > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if arrival is None:
                self._ended = True
            else:
                found.append(arrival)
        return found

    def _read(self) -> None:
        try:
            for frame in self.source:
                if not self._put(Arrival(frame, time.perf_counter())):
                    return
        except BaseException as error:  # raised again by whoever takes the batches
            self._error = error
        self._put(None)

    def _put(self, arrival: Arrival | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(arrival, timeout=_POLL)
            except queue.Full:
                continue
            return True
        return False


def results_together(
    decide: Decider,
    frames: Iterable[Frame],
    meter: Meter,
    tally: Tally,
    batching: Batching,
    *,
    min_score: float = 0.0,
    warmup: int = WARMUP,
) -> Iterator[Result | Failure]:
    """Decides about every frame, several in one run; results come in the order of the frames.

    Args:
        decide: An opened bundle.
        frames: The source.
        meter: Counts and times, waiting included; its clock starts after warm-up.
        tally: Counts what is seen.
        batching: When a batch is closed.
        min_score: Detections below it are left out.
        warmup: Runs of a full batch of the first frame that are not counted.

    Raises:
        UsageError: The artifact was compiled for another batch.
    """
    decide.require_batch(batching.size)
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        return
    for _ in range(warmup):
        decide.many([first.value] * batching.size, batching.size)
    decide.reset()
    meter.start()
    with closing(Arrivals(chain([first], rest), batching)) as arrivals:
        for gathered in arrivals:
            decisions = decide.many([arrival.frame.value for arrival in gathered], batching.size)
            now = time.perf_counter()
            for arrival, decision in zip(gathered, decisions, strict=True):
                yield _told(arrival, decision, now, meter, tally, min_score)


def _told(
    arrival: Arrival, decision: Decision | EdgewrightError, now: float, meter: Meter, tally: Tally, min_score: float
) -> Result | Failure:
    ms = 1e3 * (now - arrival.at)
    meter.add(arrival.frame.index, ms)
    if isinstance(decision, EdgewrightError):
        meter.failed += 1
        return Failure(arrival.frame, decision.message, decision.hint, ms)
    shown, tracks = tally.add(decision, min_score)
    return Result(arrival.frame, shown, tracks, ms)
