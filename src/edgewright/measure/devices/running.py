"""A Runner on a device that outlives its connection."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConnectionLost
from edgewright.measure.devices.transports import LOST
from edgewright.runtimes._remote import Channel, RemoteRunner

T = TypeVar("T")
_ATTEMPTS = 6
_LEASE_POLL_SECONDS = 0.5
_LONGEST_PAUSE = 15.0


class SteadyRunner:
    """Runs an artifact on a device; when the connection breaks, it is opened again and the batch is run again.

    A profiled artifact is not opened again: what was recorded so far would be lost without a word.

    Args:
        start: Starts a process there.
        artifact: Path of the artifact there.
        specs: Its inputs and outputs.
        options: See `RunOptions`.
        exclusive: Hold the lease of the device.
    """

    def __init__(
        self,
        start: Callable[[], Channel],
        artifact: str,
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        options: RunOptions,
        exclusive: bool,
    ) -> None:
        self.inputs, self.outputs = tuple(specs[0]), tuple(specs[1])
        self._start, self._artifact, self._options, self._exclusive = start, artifact, options, exclusive
        self._channel: Channel | None = None
        self._runner: RemoteRunner | None = None
        self._steadily(self._opened)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """See `edgewright.core.target.Runner`."""
        return self._steadily(lambda: self._opened().run(inputs))

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """See `edgewright.core.target.Runner`."""
        return self._opened().operator_times()

    def close(self) -> None:
        """Ends the process there."""
        self._runner = None
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _opened(self) -> RemoteRunner:
        if self._runner is None:
            self._channel = self._start()
            while self._exclusive and not self._channel.ask({"do": "lease"})[0]["held"]:
                time.sleep(_LEASE_POLL_SECONDS)
            self._runner = RemoteRunner(self._channel, self._artifact, (self.inputs, self.outputs), self._options)
        return self._runner

    def _steadily(self, call: Callable[[], T]) -> T:
        for attempt in range(_ATTEMPTS):
            recorded = self._options.profile and self._runner is not None
            try:
                return call()
            except ConnectionLost:
                broken = self._channel is not None and connection_broke(self._channel.status)
                self.close()
                if recorded or not broken or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(min(0.5 * 2**attempt, _LONGEST_PAUSE))
        raise AssertionError


def connection_broke(status: int | None) -> bool:
    """Tells a connection that ended from a process over there that did: a runtime may well crash.

    Args:
        status: Of the local program; None where it had to be given up.
    """
    return status is None or status == LOST or status < 0


class Remembering:
    """A Runner that keeps what it computed, so that work which is repeated after a kill goes on where it was.

    Args:
        runner: Computes what is not kept yet.
        folder: Where outputs are kept, under the digest of their inputs.
    """

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.inputs, self.outputs = runner.inputs, runner.outputs
        self._runner, self._folder = runner, folder
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """See `edgewright.core.target.Runner`."""
        file = self._folder / f"{_digest(inputs)}.npz"
        if file.is_file():
            with np.load(file, allow_pickle=False) as kept:
                return {name: kept[name] for name in kept.files}
        found = self._runner.run(inputs)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as written:
            np.savez(written, **found)  # type: ignore[arg-type]
        partial.replace(file)
        return found

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """See `edgewright.core.target.Runner`."""
        return self._runner.operator_times()


def _digest(inputs: Mapping[str, NDArray[Any]]) -> str:
    state = hashlib.sha256()
    for name, array in sorted(inputs.items()):
        state.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
        state.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return state.hexdigest()
