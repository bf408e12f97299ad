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

from edgewright.bundle.decide import Decider, open_decider
from edgewright.bundle.open import open_bundle
from edgewright.core.bundle import Options
from edgewright.device.batching import Batching, results_together
from edgewright.device.draw import name_of
from edgewright.device.loop import Failure, Meter, Result, Tally, results
from edgewright.device.sinks import open_sink
from edgewright.device.sources import LatestFrame, Source, open_source
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
        max_batch: Samples that share a run; None for what the bundle recommends, where the source is not live.
        max_delay_ms: Longest time that a sample waits for others; None for what the bundle recommends.
    """

    bundle: Path
    source: str
    output: str | None = None
    limit: int | None = None
    threads: int | None = None
    realtime: bool = False
    min_score: float = MIN_SCORE
    cache: Path | None = None
    max_batch: int | None = None
    max_delay_ms: float | None = None


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
        p99_ms: 99th percentile of the same. Where samples share a run, waiting counts in all three.
        failed: Of the frames, those that nothing could be decided about.
        max_batch: Most samples that shared a run.
    """

    frames: int
    skipped: int
    fps: float
    p50_ms: float
    p95_ms: float
    classes: tuple[ClassCount, ...]
    stopped: bool
    output: str | None
    p99_ms: float = 0.0
    failed: int = 0
    max_batch: int = 1


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
        batching = _batching(config, bundle.manifest.options, live=isinstance(source, LatestFrame))
        for result in _results(decide, source, meter, tally, batching, config.min_score):
            if isinstance(result, Failure):
                sink.fail(result)
            else:
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
        p99_ms=meter.percentile(99),
        failed=meter.failed,
        max_batch=batching.size if batching is not None else 1,
    )


def _batching(config: RunConfig, recommended: Options, *, live: bool) -> Batching | None:
    """Returns how samples share a run; None where each is run alone."""
    size = config.max_batch if config.max_batch is not None else 0 if live else recommended.max_batch
    if size < 2 and config.max_batch != 0:
        return None
    delay = config.max_delay_ms if config.max_delay_ms is not None else recommended.max_delay_ms
    return Batching(size, delay, recommended.batches_ahead)


def _results(
    decide: Decider, source: Source, meter: Meter, tally: Tally, batching: Batching | None, min_score: float
) -> Iterator[Result | Failure]:
    if batching is None:
        return results(decide, source, meter, tally, min_score=min_score)
    return results_together(decide, source, meter, tally, batching, min_score=min_score)


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
