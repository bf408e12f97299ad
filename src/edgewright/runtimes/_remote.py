"""The other side of `edgewright.runtimes.host`: an artifact opened in another process, interpreter or machine.

```
with open_remote(artifact, RunOptions(), start=other_interpreter("/opt/env/bin/python")) as runner:
    outputs = runner.run(inputs)
```
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from numpy.typing import NDArray

from edgewright import errors
from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConnectionLost, EdgewrightError, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._wire import HEADER_BYTES, Tensors, pack, parse, unpack

ANSWER_SECONDS = 600.0
HOST = "edgewright.runtimes.host"
_START = Path(__file__).resolve().parents[1] / "engine" / "guest" / "start.py"
"""Makes this package, and nothing that is installed beside it, importable in another interpreter."""
_TAIL_LINES = 20
_NOISE_LINES = 200
_LAST_SECONDS = 10.0
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a process that speaks the protocol of `host`.

    Attributes:
        command: Program and arguments.
        environment: Added to this process's own.
        place: Where it runs, for messages; empty for this machine.
    """

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    place: str = ""


def this_interpreter() -> Start:
    """Returns how to start a fresh process with what is installed here."""
    return Start((sys.executable, "-m", HOST))


def other_interpreter(python: str | Path, environment: Mapping[str, str] | None = None) -> Start:
    """Returns how to start a process in another environment of this machine.

    Args:
        python: Its interpreter, 3.10 or later, with numpy, msgspec and the framework installed; Edgewright itself is
            taken from here.
        environment: Variables for it, e.g. LD_LIBRARY_PATH.
    """
    return Start((str(python), "-Iu", str(_START), HOST), tuple((environment or {}).items()), f"in {python}")


class Channel:
    """A started process and a conversation with it; use as a context manager.

    Args:
        start: What to start.
        subject: What it works on, for messages.
        answer_seconds: How long one answer may take.
        skip_noise: Leave out what a login shell may print before the first answer.

    Attributes:
        status: What the process ended with, once it was lost; None where it had to be given up.
    """

    def __init__(
        self, start: Start, subject: str, *, answer_seconds: float = ANSWER_SECONDS, skip_noise: bool = False
    ) -> None:
        self.status: int | None = None
        self._noise = _NOISE_LINES if skip_noise else 0
        self._subject = f"{subject} {start.place}".rstrip()
        self._answer_seconds = answer_seconds
        self._kept = bytearray()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - ends in __exit__
        self._process = subprocess.Popen(
            list(start.command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **dict(start.environment)},
        )
        os.set_blocking(_pipe(self._process.stdin).fileno(), False)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            _pipe(pipe).close()
        self._process.wait()
        self._log.close()

    def ask(
        self, request: Mapping[str, Any], tensors: Tensors | None = None
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Sends a request and waits for its answer.

        Raises:
            ConnectionLost: The process died or did not answer in time; the message has the end of its log.
            EdgewrightError: What the other side answered.
        """
        what, deadline = str(request["do"]), time.monotonic() + self._answer_seconds
        for piece in pack(request, tensors):
            self._write(memoryview(piece), what, deadline)
        header = self._header(what, deadline)
        if "error" in header:
            raise _reported(header, self._subject)
        return header, unpack(header, lambda size: self._exactly(size, what, deadline))

    def _write(self, data: memoryview, what: str, deadline: float) -> None:
        pipe = _pipe(self._process.stdin).fileno()
        while data:
            self._wait([], [pipe], what, deadline)
            try:
                data = data[os.write(pipe, data[:_CHUNK]) :]
            except BrokenPipeError:
                raise self._died() from None
            except BlockingIOError:
                continue

    def _header(self, what: str, deadline: float) -> dict[str, Any]:
        line = self._line(what, deadline)
        while self._noise and not line.startswith(b"{"):
            line, self._noise = self._line(what, deadline), self._noise - 1
        self._noise = 0
        return parse(line)

    def _line(self, what: str, deadline: float) -> bytes:
        searched = 0
        while (end := self._kept.find(b"\n", searched)) < 0 and len(self._kept) < HEADER_BYTES:
            searched = len(self._kept)
            self._kept += self._some(what, deadline)
        line = bytes(self._kept[: end + 1] if end >= 0 else self._kept)
        del self._kept[: len(line)]
        return line

    def _exactly(self, size: int, what: str, deadline: float) -> bytearray:
        found = bytearray(self._kept[:size])
        del self._kept[:size]
        while len(found) < size:
            found += self._some(what, deadline, size - len(found))
        return found

    def _some(self, what: str, deadline: float, most: int = _CHUNK) -> bytes:
        pipe = _pipe(self._process.stdout).fileno()
        self._wait([pipe], [], what, deadline)
        data = os.read(pipe, min(most, _CHUNK))
        if not data:
            raise self._died()
        return data

    def _wait(self, readable: list[int], writable: list[int], what: str, deadline: float) -> None:
        ready = select.select(readable, writable, [], max(0.0, deadline - time.monotonic()))
        if not any(ready):
            raise self._lost(f"gave no answer to {what} within {self._answer_seconds:g} s")

    def _died(self) -> ConnectionLost:
        try:
            self.status = self._process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return self._lost("closed its output")
        return self._lost(f"ended with status {self.status}")

    def _lost(self, what: str) -> ConnectionLost:
        self._log.seek(0)
        log = "\n".join(self._log.read().decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]).rstrip()
        message = f"the process that holds {self._subject} {what}" + (f":\n{log}" if log else "")
        return ConnectionLost(message, hint="the artifact does not run there; its log above says why")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _reported(answer: Mapping[str, Any], subject: str) -> EdgewrightError:
    kind = getattr(errors, str(answer["error"]), StepFailed)
    if not (isinstance(kind, type) and issubclass(kind, EdgewrightError)):
        kind = StepFailed
    hint = answer["hint"] or "the artifact does not run there; evaluate it for the full traceback"
    return kind(f"{subject}: {answer['message']}", hint=hint)


class RemoteRunner:
    """The Runner of an artifact that another process holds.

    Args:
        channel: To the process; its `open` is asked for here.
        artifact: Path of the artifact folder on the other side.
        specs: Its inputs and outputs.
        options: See `RunOptions`.

    Attributes:
        load_ms: What opening took, in milliseconds.
        run_ms: What the last run took on the other side, without the way there and back.
    """

    def __init__(
        self,
        channel: Channel,
        artifact: str,
        specs: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
        options: RunOptions,
    ) -> None:
        self.inputs, self.outputs = tuple(specs[0]), tuple(specs[1])
        self.run_ms = 0.0
        self._channel = channel
        self.load_ms = float(channel.ask(open_request(artifact, options))[0]["load_ms"])

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """See `edgewright.core.target.Runner`."""
        check_inputs(self.inputs, inputs)
        answer, outputs = self._channel.ask({"do": "run"}, inputs)
        self.run_ms = float(answer["ms"])
        return outputs

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """See `edgewright.core.target.Runner`."""
        answer, _ = self._channel.ask({"do": "operators"})
        return tuple(OperatorTime(**found) for found in answer["operators"])


def open_request(artifact: str, options: RunOptions, inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the request that opens an artifact with these options."""
    return {
        "do": "open",
        "artifact": artifact,
        "inputs": list(inputs),
        "threads": options.threads,
        "profile": options.profile,
        "session": dict(options.session),
    }


@contextmanager
def open_remote(artifact: Path, options: RunOptions, start: Start) -> Iterator[Runner]:
    """Opens an artifact of this machine in another process.

    Raises:
        ConnectionLost: It cannot be started, or died.
        EdgewrightError: As the runtime raised it over there.
    """
    described = load_artifact(artifact)
    with Channel(start, str(artifact)) as channel:
        yield RemoteRunner(channel, str(artifact.resolve()), (described.inputs, described.outputs), options)
