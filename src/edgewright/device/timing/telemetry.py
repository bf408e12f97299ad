"""From what a device logged while it was measured to what a report says about it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from edgewright.core.codec import decode
from edgewright.core.telemetry import Log, Series, Telemetry
from edgewright.runtimes._remote import Channel, Start, this_interpreter
from edgewright.runtimes._telemetry.sampler import find
from edgewright.runtimes._telemetry.system import LocalSystem

Column = tuple[float | None, ...]
Span = tuple[float, float]
"""Start and end on the device's monotonic clock, in seconds."""
SERIES_POINTS = 60


class Watch:
    """A process on the device that samples its sensors while other processes are timed; use as a context manager.

    Args:
        start: How a process is started there; this machine without it. Here, none is started where there is nothing
            to read.
    """

    def __init__(self, start: Start | None = None) -> None:
        self._start = start
        self._stack = ExitStack()
        self._channel: Channel | None = None

    def __enter__(self) -> Watch:
        if self._start is not None or find(LocalSystem()):
            channel = self._stack.enter_context(Channel(self._start or this_interpreter(), "telemetry"))
            try:
                channel.ask({"do": "watch"})
            except BaseException:
                self._stack.close()
                raise
            self._channel = channel
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def finish(self) -> Log:
        """Ends the sampling and returns what was read; an empty log where there is nothing to read."""
        if self._channel is None:
            return Log()
        answer, _ = self._channel.ask({"do": "watched"})
        return decode(Log, answer["log"], "telemetry of the device")


def summarise(log: Log, power_mode: str = "") -> Telemetry | None:
    """Returns the summary of a log; None where the device has nothing to say."""
    if not log.at and not log.notes:
        return None
    seconds = log.at[-1] - log.at[0] if log.at else 0.0
    degrees, clock, gpu = _known(log.temperature), _known(log.clock), _known(log.gpu_clock)
    return Telemetry(
        seconds=seconds,
        samples=len(log.at),
        start_c=degrees[0] if degrees else None,
        peak_c=max(degrees, default=None),
        sensor=log.sensor,
        clock_mean=_mean(clock),
        clock_least=min(clock, default=None),
        gpu_clock_mean=_mean(gpu),
        gpu_clock_least=min(gpu, default=None),
        throttled=bool(log.reasons) if log.observable else None,
        reasons=log.reasons,
        earlier=log.earlier,
        power_w=_mean(_known(log.power)),
        power_source=log.power_source,
        power_mode=power_mode,
        cost=log.cost,
        notes=log.notes,
        series=_series(log),
    )


def throttle_note(telemetry: Telemetry | None) -> str:
    """Says that the device held itself back, and why; empty where it did not."""
    if telemetry is None or not telemetry.throttled:
        return ""
    return f"the device throttled during this measurement: {', '.join(telemetry.reasons)}"


def energy_mj(log: Log, blocks: Sequence[tuple[Span, int]]) -> float | None:
    """Returns millijoules per run: the power over the spans in which the runs were made.

    Args:
        log: With a power column.
        blocks: Spans on the same clock as the log, with the runs made in each; those from before the log began (of a
            measurement that was interrupted) do not count.
    """
    points = [(at, watts) for at, watts in zip(log.at, log.power, strict=False) if watts is not None]
    if len(points) < 2:
        return None
    seen = [(span, runs) for span, runs in blocks if span[1] > log.at[0] and span[0] < log.at[-1]]
    runs = sum(count for _, count in seen)
    return 1000.0 * sum(_joules(points, *span) for span, _ in seen) / runs if runs else None


def _joules(points: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Integrates the straight lines between samples; before the first and after the last the power is theirs."""
    inside = [(at, watts) for at, watts in points if start < at < end]
    line = [(start, _at(points, start)), *inside, (end, _at(points, end))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(line))


def _at(points: Sequence[tuple[float, float]], moment: float) -> float:
    before = next((p for p in reversed(points) if p[0] <= moment), points[0])
    after = next((p for p in points if p[0] >= moment), points[-1])
    if after[0] <= before[0]:
        return before[1]
    share = (moment - before[0]) / (after[0] - before[0])
    return before[1] + share * (after[1] - before[1])


def _series(log: Log) -> Series:
    """Thins the log; a peak of the temperature and a dip of the clock are what a plot is looked at for, and stay."""
    every = max(1, -(-len(log.at) // SERIES_POINTS))
    groups = range(0, len(log.at), every)

    def thinned(column: Column, pick: int) -> Column:
        return tuple(_extreme(column[i : i + every], pick) for i in groups) if column else ()

    return Series(
        seconds=tuple(round(log.at[i] - log.at[0], 3) for i in groups),
        temperature=thinned(log.temperature, 1),
        clock=thinned(log.clock, -1),
        gpu_clock=thinned(log.gpu_clock, -1),
        power=thinned(log.power, 0),
    )


def _extreme(values: Column, pick: int) -> float | None:
    known = _known(values)
    if not known:
        return None
    return round(sum(known) / len(known), 4) if pick == 0 else max(known) if pick > 0 else min(known)


def _known(column: Column) -> list[float]:
    return [value for value in column if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
