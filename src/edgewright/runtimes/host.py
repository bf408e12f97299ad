"""A fresh process that opens one artifact and times it: `python -m edgewright.runtimes.host`.

One JSON object per line on standard input, one answer per line on standard output:

```
{"do": "open", "artifact": PATH, "inputs": [PATH.npz...], "threads": 1}  -> {"load_ms": 12.3}
{"do": "time", "runs": 20, "unrecorded": 2}    -> {"ms": [...], "microjoules": 812 | null}
{"do": "memory"}                               -> {"peak_memory_bytes": 98765432}
{"do": "energy"}                               -> {"available": false, "note": "no RAPL ..."}
{"do": "close"}                                -> {"closed": true}, and the process ends
```

An error answers {"error": class name, "message", "hint"} and ends the process, as does the end of its input. Whatever
a runtime prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Runner, RunOptions
from edgewright.errors import EdgewrightError
from edgewright.runtimes import open_runner
from edgewright.runtimes._energy import open_meter
from edgewright.runtimes._machine import peak_memory_bytes


class Host:
    """The state between two requests: the opened artifact and its inputs, taken in turn."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._meter = open_meter()
        self._runner: Runner | None = None
        self._inputs: Iterator[Mapping[str, NDArray[Any]]] = iter(())

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out one request.

        Raises:
            EdgewrightError: The artifact cannot be opened or run.
        """
        actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "time": self._time,
            "memory": lambda _: {"peak_memory_bytes": peak_memory_bytes()},
            "energy": lambda _: {"available": bool(self._meter.counters), "note": self._meter.note},
            "close": lambda _: {"closed": True},
        }
        return actions[request["do"]](request)

    def _open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._inputs = cycle([_load(Path(path)) for path in request["inputs"]])
        options = RunOptions(threads=int(request["threads"]))
        start = time.perf_counter_ns()
        self._runner = self._stack.enter_context(open_runner(Path(request["artifact"]), options))
        self._runner.run(next(self._inputs))
        return {"load_ms": (time.perf_counter_ns() - start) / 1e6}

    def _time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._runner is not None, "open comes first"
        run, batches = self._runner.run, self._inputs
        for _ in range(int(request["unrecorded"])):
            run(next(batches))
        before = self._meter.read()
        milliseconds = []
        for _ in range(int(request["runs"])):
            batch = next(batches)
            start = time.perf_counter_ns()
            run(batch)
            milliseconds.append((time.perf_counter_ns() - start) / 1e6)
        used = self._meter.used(before, self._meter.read())
        return {"ms": milliseconds, "microjoules": used if self._meter.counters else None}


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def serve(requests: TextIO, answers: TextIO) -> int:
    """Answers requests until `close`, an error or the end of the input; returns the exit status."""
    with ExitStack() as stack:
        host = Host(stack)
        for line in requests:
            request = json.loads(line)
            answer = _guarded(host, request)
            print(json.dumps(answer), file=answers, flush=True)
            if "error" in answer:
                return 1
            if request["do"] == "close":
                return 0
    return 0


def _guarded(host: Host, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return host.answer(request)
    except EdgewrightError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except Exception as error:  # a runtime raises what it likes; the other side names the artifact
        return {"error": "StepFailed", "message": f"{type(error).__name__}: {error}", "hint": ""}


def main() -> int:
    """Keeps standard output for answers alone, then serves."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with answers:
        return serve(sys.stdin, answers)


if __name__ == "__main__":
    sys.exit(main())
