"""Reads the sensors of a device in a thread until told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from edgewright.core.telemetry import Log
from edgewright.runtimes._telemetry.clocks import clocks
from edgewright.runtimes._telemetry.power import power
from edgewright.runtimes._telemetry.sensors import CLOCK, GPU_CLOCK, POWER, TEMPERATURE, Alarm, Sensor, Sensors
from edgewright.runtimes._telemetry.system import COMMAND, System
from edgewright.runtimes._telemetry.thermal import temperatures
from edgewright.runtimes._telemetry.throttle import DUMPSYS, alarms, android_temperatures

INTERVAL = 0.1
_LARGEST_SHARE = 0.005
"""Of one core: the pause grows with what a sample costs."""
_COMMAND_PAUSE = 1.0
_MOST_SAMPLES = 4000


def find(system: System) -> Sensors:
    """Returns everything that can be read on a device."""
    found = list(power(system))
    watts = [each for each in found if isinstance(each, Sensor)]
    notes = tuple(each for each in found if isinstance(each, str))
    degrees = list(temperatures(system)) or list(_android(system))
    return Sensors((*degrees, *clocks(system), *watts), tuple(alarms(system)), notes)


def _android(system: System) -> list[Sensor]:
    if not system.has("dumpsys"):
        return []

    def hottest(texts: Sequence[str]) -> float | None:
        return max(android_temperatures(texts[0]).values(), default=None)

    return [Sensor(TEMPERATURE, "thermal service", (DUMPSYS,), hottest)]


@dataclass(slots=True)
class _Alarms:
    """What was raised, and what had been before."""

    first: dict[tuple[int, str], int] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    earlier: dict[str, None] = field(default_factory=dict)

    def see(self, index: int, alarm: Alarm, levels: Mapping[str, int]) -> None:
        for reason, level in levels.items():
            before = self.first.setdefault((index, reason), level)
            if alarm.latched and before:
                self.earlier[reason] = None
            if level > before if alarm.rises else level:
                self.reasons[reason] = None


class Sampler:
    """Watches a device from `start` (or entering) to `stop`.

    Args:
        system: The device.
        interval: Seconds between samples; longer where a sample is dear.
    """

    def __init__(self, system: System, interval: float = INTERVAL) -> None:
        self.found = find(system)
        self._system, self._interval = system, interval
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._rows: list[tuple[float, dict[str, float]]] = []
        self._texts: dict[str, str] = {}
        self._hottest = (float("-inf"), "")
        self._alarms = _Alarms()
        self._busy = self._began = self._commands_at = 0.0

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Takes the first sample and goes on in a thread; nothing happens where there is nothing to read."""
        self._began = time.monotonic()
        if not self.found:
            return
        self.sample()
        self._thread = threading.Thread(target=self._watch, name="telemetry", daemon=True)
        self._thread.start()

    def stop(self) -> Log:
        """Takes the last sample and returns all of them."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._commands_at = 0.0
            self.sample()
        return self._log()

    def sample(self) -> float:
        """Reads everything once; returns the processor time that took, in seconds."""
        start = time.thread_time()
        self._read()
        values: dict[str, float] = {}
        for sensor in self.found.sensors:
            value = sensor.value([self._texts.get(source, "") for source in sensor.sources])
            if value is None:
                continue
            values[sensor.kind] = max(value, values.get(sensor.kind, value))
            if sensor.kind == TEMPERATURE:
                self._hottest = max(self._hottest, (value, sensor.name))
        for index, alarm in enumerate(self.found.alarms):
            self._alarms.see(index, alarm, alarm.levels([self._texts.get(source, "") for source in alarm.sources]))
        self._rows.append((time.monotonic(), values))
        taken = time.thread_time() - start
        self._busy += taken
        return taken

    def _read(self) -> None:
        """Files are read every time, commands once a second: starting a program is dear."""
        sources = [*(s.sources for s in self.found.sensors), *(a.sources for a in self.found.alarms)]
        every = dict.fromkeys(source for group in sources for source in group)
        due = time.monotonic() - self._commands_at >= _COMMAND_PAUSE
        if due:
            self._commands_at = time.monotonic()
        wanted = [source for source in every if due or not source.startswith(COMMAND)]
        self._texts.update(zip(wanted, self._system.read(wanted), strict=True))

    def _watch(self) -> None:
        pause = self._interval
        while not self._ended.wait(pause):
            pause = max(self._interval, self.sample() / _LARGEST_SHARE)
            if len(self._rows) > _MOST_SAMPLES:
                self._rows = self._rows[::2]
                self._interval *= 2

    def _log(self) -> Log:
        seconds = max(time.monotonic() - self._began, 1e-9)
        watts = [sensor.name for sensor in self.found.sensors if sensor.kind == POWER]
        return Log(
            at=tuple(round(at, 4) for at, _ in self._rows),
            temperature=self._column(TEMPERATURE),
            clock=self._column(CLOCK),
            gpu_clock=self._column(GPU_CLOCK),
            power=self._column(POWER),
            sensor=self._hottest[1],
            power_source=watts[0] if watts else "",
            reasons=tuple(self._alarms.reasons),
            earlier=tuple(self._alarms.earlier),
            observable=bool(self.found.alarms),
            cost=self._busy / seconds,
            notes=self.found.notes,
        )

    def _column(self, kind: str) -> tuple[float | None, ...]:
        """Returns the column of a kind; empty where nothing of that kind was ever read."""
        column = tuple(values.get(kind) for _, values in self._rows)
        return tuple(None if v is None else round(v, 4) for v in column) if any(v is not None for v in column) else ()
