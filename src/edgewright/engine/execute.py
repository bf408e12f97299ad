"""The executor: every step runs once, in its own process, and what it made is kept."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from edgewright import errors
from edgewright.core.codec import encode
from edgewright.core.digest import Digest, digest_json
from edgewright.core.measurement import Device
from edgewright.core.recipe import StepSpec
from edgewright.core.step import Step, StepRecord
from edgewright.engine import environments, registry, toolchain
from edgewright.engine.guest.start import PATH as GUEST
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.store.cache import Cache, Hit
from edgewright.store.files import full_disk

_LOG_TAIL_LINES = 30
_DEVICE_BOUND = ("targets", "measure")
"""Groups whose results belong to the machine that made them."""

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Input:
    """A file or folder a step reads, and its identity."""

    path: Path
    digest: Digest


@dataclass(frozen=True, slots=True)
class Result:
    """What a step made.

    Attributes:
        path: Its folder in the cache.
        record: What ran.
        cached: True when nothing ran because it had been made before.
        lineage: Records of all steps that led here, this one last.
    """

    path: Path
    record: StepRecord
    cached: bool
    lineage: tuple[StepRecord, ...]

    @property
    def digest(self) -> Digest:
        """Identity of the folder."""
        return self.record.output

    def as_input(self) -> Input:
        """Returns this result as the input of a later step."""
        return Input(self.path, self.digest)


class Executor:
    """Runs steps for one project.

    Attributes:
        cache: Where results are kept.
        root: The project's folder, for `module:function` and relative paths.
        device: The machine that measured and compiled results belong to.
        seed: Given to every step.
        started: How many worker processes were started so far.
    """

    def __init__(self, cache: Cache, root: Path, device: Device, *, seed: int = 0, progress: Progress | None = None):
        self.cache = cache
        self.root = root
        self.device = device
        self.seed = seed
        self.started = 0
        self._progress = progress or (lambda fraction, note: None)

    def run(
        self,
        group: str,
        spec: StepSpec,
        inputs: Mapping[str, Input],
        *,
        lineage: tuple[StepRecord, ...] = (),
        device: Device | None = None,
    ) -> Result:
        """Returns what the step makes of `inputs`, running it only if that was never done before.

        Args:
            group: `sources`, `passes`, `targets` or `measure`.
            spec: Name and fields.
            inputs: Named files or folders.
            lineage: Records of the steps that made the inputs.
            device: The machine that the result belongs to, where the step measures on another one.

        Raises:
            EdgewrightError: What the step raised, or StepFailed with the end of its log.
        """
        step = registry.make(group, spec)
        record = self._record(group, step, spec, inputs, device or self.device)
        hit = self.cache.find(record.key)
        cached = hit is not None
        if hit is None:
            with self.cache.writer(record.key) as out:
                hit = self.cache.find(record.key) or self._make(group, record, inputs, out)
        return Result(hit.path, hit.record, cached, (*lineage, hit.record))

    def _record(
        self, group: str, step: Step, spec: StepSpec, inputs: Mapping[str, Input], device: Device
    ) -> StepRecord:
        tools = _tools(step)
        config = encode(step)
        identity = {
            "edgewright": toolchain.own_identity(),
            "step": f"{group}/{spec.name}",
            "version": step.version,
            "config": config,
            "inputs": {name: given.digest for name, given in inputs.items()},
            "tools": tools,
            "seed": self.seed,
            "device": encode(device) if group in _DEVICE_BOUND else None,
        }
        digests = {name: given.digest for name, given in inputs.items()}
        return StepRecord(spec.name, step.version, config, digest_json(identity), digests, Digest(""), tools)

    def _make(self, group: str, record: StepRecord, inputs: Mapping[str, Input], out: Path) -> Hit:
        request = {
            "group": group,
            "step": record.step,
            "config": record.config,
            "inputs": {name: str(given.path) for name, given in inputs.items()},
            "out": str(out),
            "scratch": str(self.cache.scratch(record.key)),
            "root": str(self.root),
            "seed": self.seed,
        }
        self.started += 1
        done = run_in_worker(request, self._progress)
        return self.cache.commit(replace(record, **done), out)


def _tools(step: Step) -> dict[str, str]:
    """Returns distribution -> version of what makes the output: here, or in the environment that the step names.

    What a step proves with (`proves_with`) counts where it is installed: installed later, it proves what it could not.
    """
    environment = environments.needed_by(step)
    if environment is not None:
        return environment.versions(step.requires)
    name = getattr(step, "proves_with", "")
    prover = environments.find(name) if name else None
    return {**toolchain.versions(step.requires), **(prover.versions() if prover else {})}


def run_in_worker(request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Runs one request in a fresh process and returns its `done` message: seconds and peak_memory_bytes.

    A step that names a toolchain runs in the interpreter of that environment, any other in this one's.

    Raises:
        ToolchainMissing: The toolchain is not ready.
        EdgewrightError: As raised by the step; StepFailed for anything else, with the end of the log.
    """
    spec = StepSpec(request["step"], request["config"])
    environment = environments.needed_by(registry.make(request["group"], spec))
    in_use = environment.in_use() if environment else contextlib.nullcontext()
    with in_use, tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = _start(log, _interpreter(environment))
        try:
            answer = _converse(process, request, progress)
            process.wait()
        finally:
            _end(process)
        if "done" in answer:
            return dict(answer["done"])
        raise _error_of(request, answer.get("error"), process.returncode, _tail(log))


def _interpreter(environment: environments.Environment | None) -> list[str]:
    """Returns the command that is followed by the name of a module to run."""
    return [sys.executable, "-m"] if environment is None else [str(environment.interpreter), "-Iu", str(GUEST)]


def _start(log: IO[str], interpreter: list[str]) -> subprocess.Popen[str]:
    command = [*interpreter, "edgewright.engine.worker", str(os.getpid())]
    environment = {**os.environ, "PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,
    )


def _converse(process: subprocess.Popen[str], request: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request))
        process.stdin.close()
    except BrokenPipeError:
        return {}
    last: dict[str, Any] = {}
    for line in process.stdout:
        message = json.loads(line)
        if "progress" in message:
            progress(message["progress"], message["note"])
        else:
            last = message
    return last


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the worker and whatever it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return "".join(log.readlines()[-_LOG_TAIL_LINES:]).rstrip()


def _error_of(
    request: Mapping[str, Any], error: Mapping[str, Any] | None, status: int | None, log: str
) -> EdgewrightError:
    name = f"step {request['step']}"
    if error is None:
        message = f"{name} ended without an answer (exit status {status})" + (f":\n{log}" if log else "")
        killed = status == -signal.SIGKILL
        hint = (
            "it was killed, most likely for memory: use less data or a smaller batch" if killed else "see its log above"
        )
        return StepFailed(message, hint=hint)
    if error["errno"] in (errno.ENOSPC, errno.EDQUOT):
        return full_disk(Path(request["out"]))
    kind = getattr(errors, str(error["class"]), None)
    if isinstance(kind, type) and issubclass(kind, EdgewrightError):
        return kind(str(error["message"]), hint=str(error["hint"]))
    return StepFailed(
        f"{name} failed: {error['class']}: {error['message']}\n{error['traceback']}".rstrip(),
        hint="this is not an error Edgewright expected; the traceback above shows where it happened",
    )
