"""Runs a bundle on a source until the source ends, the limit is reached or someone stops it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from edgewright.bundle.decide import open_decider
from edgewright.bundle.open import open_bundle
from edgewright.device.draw import name_of
from edgewright.device.loop import Meter, Tally, results
from edgewright.device.sinks import open_sink
from edgewright.device.sources import open_source
from edgewright.errors import UsageError

MIN_SCORE = 0.3
"""Detections below this are noise to a viewer, although a curve of precision and recall needs them."""


@dataclass(frozen=True, slots=True)
class RunConfig:
    """How to run a bundle.

    Attributes:
        bundle: The `.ewb` file.
        source: Folder, file, video or camera, see `open_source`.
        output: `-`, a `.jsonl` or `.mp4` file, or None.
        limit: Frames to decide about; None for all.
        threads: Intra-operator threads; None for what the bundle was measured with.
        realtime: Play a video at its own speed, skipping frames.
        min_score: Least score of a detection.
        cache: Where to unpack the bundle; the user's cache by default.
    """

    bundle: Path
    source: str
    output: str | None = None
    limit: int | None = None
    threads: int | None = None
    realtime: bool = False
    min_score: float = MIN_SCORE
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How often a class was seen.

    Attributes:
        label: Its name.
        frames: Frames decided so (classification).
        most: Most objects of it in one frame (detection).
        distinct: Objects that were told apart by tracking (detection).
    """

    label: str
    frames: int = 0
    most: int = 0
    distinct: int = 0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to.

    Attributes:
        frames: Decided.
        skipped: Frames of a live source that were never looked at.
        fps: Frames per second of wall-clock time, reading, drawing and writing included.
        p50_ms: Median of pre-processing, run and post-processing.
        p95_ms: 95th percentile of the same.
        classes: What was seen, the most frequent first.
        stopped: Whether it was interrupted.
        output: The file written, if any.
    """

    frames: int
    skipped: int
    fps: float
    p50_ms: float
    p95_ms: float
    classes: tuple[ClassCount, ...]
    stopped: bool
    output: str | None


def run_bundle(
    config: RunConfig, *, show: Callable[[Meter], None] | None = None, stdout: TextIO | None = None
) -> RunSummary:
    """Runs the bundle; an interrupt ends it after the frame in work, with every file finished.

    Args:
        config: What to run on what.
        show: Called after every frame.
        stdout: Where `-` goes.

    Raises:
        UsageError: Bundle or source do not exist, or the output cannot be made.
        Corrupt: The bundle is damaged.
        ToolchainMissing: The runtime or a library that reads the source is not installed.
    """
    if config.limit is not None and config.limit < 1:
        raise UsageError(f"--limit {config.limit}: expected at least 1", hint="leave it out to run to the end")
    bundle = open_bundle(config.bundle, config.cache)
    labels = bundle.manifest.pipeline.labels
    meter, tally = Meter(), Tally()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_interrupt())
        source = stack.enter_context(open_source(config.source, realtime=config.realtime, stop=stop))
        decide = stack.enter_context(open_decider(bundle, config.threads))
        sink = stack.enter_context(open_sink(config.output, labels, source.fps, stdout or sys.stdout))
        for result in results(decide, source, meter, tally, min_score=config.min_score):
            sink.write(result)
            if show is not None:
                show(meter)
            if stop.is_set() or meter.frames == config.limit:
                break
        stopped = stop.is_set()
    return RunSummary(
        frames=meter.frames,
        skipped=meter.skipped,
        fps=meter.fps,
        p50_ms=meter.percentile(50),
        p95_ms=meter.percentile(95),
        classes=_counts(tally, labels),
        stopped=stopped,
        output=config.output,
    )


def _counts(tally: Tally, labels: Sequence[str]) -> tuple[ClassCount, ...]:
    indices = {*tally.decided, *tally.most}
    distinct = tally.tracker.counts
    counts = [ClassCount(name_of(i, labels), tally.decided[i], tally.most[i], distinct[i]) for i in indices]
    return tuple(sorted(counts, key=lambda c: (-c.frames, -c.distinct, -c.most, c.label)))


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Turns the first SIGINT or SIGTERM into an event; a second interrupt ends the process as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
