"""The measuring side of `edgewright.runtimes.host`: one fresh process per artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from edgewright.core.target import RunOptions
from edgewright.runtimes._place import start_for
from edgewright.runtimes._remote import ANSWER_SECONDS, Channel, open_request


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive runs.

    Attributes:
        ms: Milliseconds of each.
        microjoules: Of all together, where a counter can be read.
        span: Start and end on the device's monotonic clock, in seconds.
    """

    ms: tuple[float, ...]
    microjoules: int | None
    span: tuple[float, float] | None = None


class HostProcess:
    """A process that holds one opened artifact; use as a context manager.

    Raises:
        EdgewrightError: From every method: what the host answered; StepFailed with the end of its log when it died or
            did not answer in time.
    """

    def __init__(self, artifact: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._artifact = artifact
        self._channel = Channel(start_for(artifact), str(artifact), answer_seconds=answer_seconds)

    def __enter__(self) -> HostProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._channel.close()

    def open(self, inputs: Sequence[Path], options: RunOptions) -> float:
        """Opens the artifact and runs it once; returns the milliseconds both took together."""
        request = open_request(str(self._artifact), options, [str(path) for path in inputs])
        return float(self._ask(request)["load_ms"])

    def time(self, runs: int, unrecorded: int) -> Block:
        """Runs `unrecorded` times, then `runs` times on the clock."""
        answer = self._ask({"do": "time", "runs": runs, "unrecorded": unrecorded})
        start, end = answer["span"]
        return Block(tuple(answer["ms"]), answer["microjoules"], (start, end))

    def peak_memory_bytes(self) -> int:
        """Returns the peak resident memory of the process so far."""
        return int(self._ask({"do": "memory"})["peak_memory_bytes"])

    def energy_note(self) -> str:
        """Says what the energy figure covers, or why there is none."""
        return str(self._ask({"do": "energy"})["note"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._channel.ask(request)[0]


class Relay:
    """One artifact in a succession of fresh processes; use as a context manager.

    Where a process happens to place its memory makes it a percent or two faster or slower for all its life, so a
    single process would be a single draw however long it runs (Mytkowicz et al. 2009, "Producing wrong data without
    doing anything obviously wrong").

    Attributes:
        load_ms: From opening the artifact to the end of its first run, per process.
        peak_memory_bytes: Peak resident memory, per finished process.
        energy_note: What the energy figures cover, or why there are none.
    """

    def __init__(
        self, artifact: Path, samples: Sequence[Path], threads: int, session: Mapping[str, str] | None = None
    ) -> None:
        self.load_ms: list[float] = []
        self.peak_memory_bytes: list[int] = []
        self.energy_note = ""
        self._artifact, self._samples = artifact, samples
        self._options = RunOptions(threads, session=session or {})
        self._host: HostProcess | None = None

    def __enter__(self) -> Relay:
        self.renew()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._host is not None:
            self._host.close()
            self._host = None

    def renew(self) -> None:
        """Puts a fresh process in the place of the present one."""
        self.finish()
        host = HostProcess(self._artifact)
        try:
            self.load_ms.append(host.open(self._samples, self._options))
        except BaseException:
            host.close()
            raise
        self._host = host

    def finish(self) -> None:
        """Reads the peak memory of the present process and ends it."""
        if self._host is not None:
            self.peak_memory_bytes.append(self._host.peak_memory_bytes())
            self.energy_note = self._host.energy_note()
            self._host.close()
            self._host = None

    def time(self, runs: int, unrecorded: int) -> Block:
        """Times a block in the present process."""
        assert self._host is not None, "entered, and not finished"
        return self._host.time(runs, unrecorded)
