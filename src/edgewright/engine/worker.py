"""Runs one step in a process of its own: `python -m edgewright.engine.worker`.

The request is one JSON object on standard input; answers are JSON lines on standard output: any number of
`{"progress": 0.4, "note": "…"}`, then `{"done": {...}}` or `{"error": {...}}`. Whatever the step prints goes to
standard error. The process dies with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_LARGEST_FILE_BYTES = 64 << 30


@dataclass(slots=True)
class WorkerContext:
    """The Context of a step in a worker: progress travels to the parent as JSON lines."""

    seed: int
    scratch: Path
    answers: IO[str]

    def progress(self, fraction: float, note: str = "") -> None:
        """Tells the parent how far the step is."""
        _answer(self.answers, {"progress": fraction, "note": note})


def main() -> int:
    """Reads the request, runs the step, answers. Returns the exit status."""
    die_with(int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid())
    _limit_resources()
    answers = _take_standard_output()
    request = json.load(sys.stdin)
    started = time.perf_counter()
    try:
        _run(request, answers)
    except BaseException as error:
        _answer(answers, {"error": _described(error)})
        return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _answer(answers, {"done": {"seconds": time.perf_counter() - started, "peak_memory_bytes": peak}})
    return 0


def _run(request: dict[str, Any], answers: IO[str]) -> None:
    from edgewright.core.recipe import StepSpec
    from edgewright.engine import registry

    if request["root"] not in sys.path:
        sys.path.insert(0, request["root"])
    step = registry.make(request["group"], StepSpec(request["step"], request["config"]))
    scratch = Path(request["scratch"])
    scratch.mkdir(parents=True, exist_ok=True)
    context = WorkerContext(request["seed"], scratch, answers)
    step.run({name: Path(path) for name, path in request["inputs"].items()}, Path(request["out"]), context)


def _described(error: BaseException) -> dict[str, Any]:
    """Makes an error cross the process border: its class, message, hint and traceback."""
    return {
        "class": type(error).__name__,
        "message": getattr(error, "message", None) or str(error) or type(error).__name__,
        "hint": getattr(error, "hint", ""),
        "errno": getattr(error, "errno", None),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }


def _answer(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _take_standard_output() -> IO[str]:
    """Keeps the real standard output for answers and sends everybody else's prints to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def die_with(parent: int) -> None:
    """Asks the kernel to kill this process when its parent ends, however it ends (Linux only)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent process ended before the worker started")


def _limit_resources() -> None:
    """Models from outside are untrusted: no core dumps, and no file larger than any model we can ship."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        soft = _LARGEST_FILE_BYTES if hard == resource.RLIM_INFINITY else min(_LARGEST_FILE_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


if __name__ == "__main__":
    sys.exit(main())
