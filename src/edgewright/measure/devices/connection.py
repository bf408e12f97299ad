"""A device that answers: found again when the connection breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from edgewright import __version__
from edgewright.core.codec import decode, encode
from edgewright.core.measurement import Device, Timing
from edgewright.core.target import Runner, RunOptions
from edgewright.device.power import Known
from edgewright.device.remote.identity import source_digest
from edgewright.device.timing.timed import Question, Round
from edgewright.errors import ConnectionLost, ToolchainMissing
from edgewright.measure.devices.address import SSH, Address, parse_address
from edgewright.measure.devices.lab import Lab, device_of
from edgewright.measure.devices.running import SteadyRunner, connection_broke
from edgewright.measure.devices.sending import send_as, send_folder
from edgewright.measure.devices.transports import LOST, how_to_try, start_module
from edgewright.measure.devices.waiting import await_timing
from edgewright.runtimes import load_artifact
from edgewright.runtimes._remote import HOST, Channel
from edgewright.runtimes._wire import Tensors

AGENT = "edgewright.device.remote.agent"
PATIENCE_SECONDS = 300.0
_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_NO_COMMAND = 127
"""What a shell ends with when there is no such program."""

Progress = Callable[[float, str], None]


def connect(address: str, lab: Lab | None = None, *, progress: Progress = lambda fraction, note: None) -> Connection:
    """Returns a device to talk to; nothing is started before it is entered or asked.

    Args:
        address: `ssh://user@host`, `adb://serial`, `local`, or a name of the lab.
        lab: Where names are looked up.
        progress: Told what takes long.

    Raises:
        UsageError: This is no address, or no name of the lab.
    """
    return Connection(device_of(address, lab) if lab is not None else parse_address(address), progress=progress)


class Connection:
    """A device; use as a context manager.

    A connection that breaks is made anew, and what was asked is asked again: the agent over there takes every request
    twice. Only a first connection that fails is an error at once.

    Args:
        address: Where it is.
        patience: Seconds to try before a broken connection is given up.
        progress: Told what takes long.
    """

    def __init__(
        self,
        address: Address,
        *,
        patience: float = PATIENCE_SECONDS,
        progress: Progress = lambda fraction, note: None,
    ) -> None:
        self.address = address
        self.progress = progress
        self._patience = patience
        self._channel: Channel | None = None
        self._about: dict[str, Any] | None = None
        self._status: int | None = None

    def __enter__(self) -> Connection:
        self.about()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; jobs go on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def about(self) -> Mapping[str, Any]:
        """Returns what the device says of itself.

        Raises:
            ConnectionLost: It cannot be reached.
            ToolchainMissing: It has no Edgewright, or another one than this.
        """
        if self._about is None:
            found = self._first()
            self._refuse_other_version(found)
            self._about = found
        return self._about

    def describe(self) -> Device:
        """Returns which machine it is, called by its name in the lab or its address."""
        return replace(decode(Device, self.about()["device"], "device"), name=self.address.title)

    def versions(self, distributions: Sequence[str]) -> Mapping[str, str | None]:
        """Returns installed versions; None where a distribution is not installed there."""
        found: Mapping[str, str | None] = self.ask({"do": "about", "distributions": list(distributions)})["versions"]
        return found

    def conditions(self) -> Mapping[str, Any]:
        """Returns governor, temperature and load at this moment."""
        return self.ask({"do": "conditions"})

    def power_modes(self) -> Known:
        """Returns the power modes of the device.

        Raises:
            UsageError: It has none.
        """
        return decode(Known, self.ask({"do": "power_modes"})["modes"], "power modes")

    def send(self, folder: Path) -> str:
        """Makes the files of a folder be there, and returns the path of the folder on the device."""
        return send_folder(self.ask, folder, self.progress)[1]

    def time(self, artifact: Path, reference: Path | None, samples: Sequence[Path], question: Question) -> Timing:
        """Times an artifact there, in turn with a reference; see `edgewright.device.timing.timed.time_artifact`.

        The measurement goes on there whatever happens here. Asked the same question again, it is found again.

        Raises:
            EdgewrightError: As raised over there.
        """
        return self.time_rounds(artifact, reference, samples, question)[0]

    def time_rounds(
        self, artifact: Path, reference: Path | None, samples: Sequence[Path], question: Question
    ) -> tuple[Timing, tuple[Round, ...]]:
        """Times as `time` does; returns the rounds it rests on, too."""
        question = question if question.power_mode else replace(question, power_mode=self.address.power_mode)
        named = {f"{index}.npz": path for index, path in enumerate(samples)}
        job = {
            "kind": "time",
            "artifact": send_folder(self.ask, artifact, self.progress)[0],
            "reference": send_folder(self.ask, reference, self.progress)[0] if reference else None,
            "samples": send_as(self.ask, named, self.progress)[0],
            "question": encode(question),
        }
        return await_timing(self.ask, job, self.address.title, self.progress)

    @contextmanager
    def open_runner(self, artifact: Path, options: RunOptions, *, exclusive: bool = False) -> Iterator[Runner]:
        """Opens an artifact of this machine over there.

        Args:
            artifact: Its folder here.
            options: See `RunOptions`.
            exclusive: Wait until nothing is timed there, and keep others from timing.

        Raises:
            EdgewrightError: As raised over there.
        """
        described = load_artifact(artifact)
        there = self.send(artifact)
        with ExitStack() as stack:
            runner = SteadyRunner(self.host, there, (described.inputs, described.outputs), options, exclusive)
            stack.callback(runner.close)
            yield runner

    def host(self) -> Channel:
        """Starts a process there that holds an artifact."""
        return Channel(start_module(self.address, HOST), "the artifact", skip_noise=True)

    def ask(self, request: Mapping[str, Any], tensors: Tensors | None = None) -> dict[str, Any]:
        """Puts a request to the agent of the device, again and again while the connection breaks.

        Raises:
            ConnectionLost: It stays broken.
            EdgewrightError: What was answered.
        """
        given_up, pause = time.monotonic() + self._patience, _PAUSE
        while True:
            try:
                return self._open().ask(request, tensors)[0]
            except ConnectionLost:
                self._status = self._channel.status if self._channel is not None else None
                self.close()
                hopeless = self._about is None or not connection_broke(self._status)
                if hopeless or time.monotonic() + pause > given_up:
                    raise
                self.progress(0.0, f"connection to {self.address.title} lost, trying again in {pause:g} s")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _open(self) -> Channel:
        if self._channel is None:
            arguments = [self.address.root] if self.address.root else []
            start = start_module(self.address, AGENT, *arguments)
            self._channel = Channel(start, "the connection", skip_noise=True)
        return self._channel

    def _first(self) -> dict[str, Any]:
        try:
            return self.ask({"do": "about"})
        except ConnectionLost as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: ConnectionLost) -> ConnectionLost | ToolchainMissing:
        if "No module named" in error.message or self._status == _NO_COMMAND:
            return ToolchainMissing(
                f"{self.address.title} has no Edgewright: {error.message.splitlines()[-1]}", hint=self._install()
            )
        what = "cannot be reached" if self.address.scheme == SSH and self._status in (None, LOST) else "does not answer"
        return ConnectionLost(f"{self.address.title} {what}: {error.message}", hint=how_to_try(self.address))

    def _refuse_other_version(self, found: Mapping[str, Any]) -> None:
        if found["edgewright"] != __version__:
            what = f"Edgewright {found['edgewright']}, here it is {__version__}"
        elif found["sources"] != source_digest():
            what = f"other sources of Edgewright {__version__} than this machine"
        else:
            return
        raise ToolchainMissing(f"{self.address.title} has {what}", hint=self._install())

    def _install(self) -> str:
        return f"`edgewright measure ... --device '{self.address}' --send` sends it; or install the same version there"
