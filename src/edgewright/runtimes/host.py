"""A process that holds one opened artifact, to run or to time it: `python -m edgewright.runtimes.host`.

One message per request on standard input, one per answer on standard output; `_wire` says how tensors travel:

```
{"do": "open", "artifact": PATH, "inputs": [PATH.npz...], "threads": 1, "profile": false, "session": {}}
                                               -> {"load_ms": 12.3}
{"do": "run"} + tensors                        -> {"ms": 1.2} + tensors
{"do": "operators"}                            -> {"operators": [{"node", "op", "microseconds"}...]}
{"do": "time", "runs": 20, "unrecorded": 2}    -> {"ms": [...], "microjoules": 812 | null, "span": [start, end]}
{"do": "memory"}                               -> {"peak_memory_bytes": 98765432}
{"do": "energy"}                               -> {"available": false, "note": "no RAPL ..."}
{"do": "conditions"}                           -> {"governor": ..., "temperature_c": ..., "load": ...}
{"do": "lease"}                                -> {"held": true}: nothing else is timed here until the process ends
{"do": "watch"}, {"do": "watched"}              -> see `_telemetry.requests`
{"do": "about", "distributions": ["numpy"]}    -> {"edgewright", "python", "device": {...}, "versions": {...}}
{"do": "close"}                                -> {"closed": true}, and the process ends
```

`inputs` are what `time` and the first run take in turn; without them `open` only opens. An error answers {"error":
class name, "message", "hint"}. After an error in `run` it goes on; any other ends the process, as does the end of its
input. Whatever a runtime prints goes to standard error.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgewright import __version__
from edgewright.core.codec import encode
from edgewright.core.target import Runner, RunOptions
from edgewright.runtimes import _serving, open_runner
from edgewright.runtimes._conditions import current
from edgewright.runtimes._energy import open_meter
from edgewright.runtimes._lease import try_lease
from edgewright.runtimes._machine import local_device, peak_memory_bytes
from edgewright.runtimes._require import installed_version
from edgewright.runtimes._serving import Answer
from edgewright.runtimes._telemetry.requests import Watching
from edgewright.runtimes._wire import Tensors


class Host:
    """The state between two requests: the opened artifact and its inputs, taken in turn."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._meter = open_meter()
        self._watching = Watching(stack)
        self._runner: Runner | None = None
        self._inputs: Iterator[Mapping[str, NDArray[Any]]] = iter(())

    def answer(self, request: Mapping[str, Any], tensors: Tensors) -> Answer:
        """Carries out one request.

        Raises:
            EdgewrightError: The artifact cannot be opened or run.
        """
        if request["do"] == "run":
            return self._run(tensors)
        actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "open": self._open,
            "operators": lambda _: {"operators": encode(self._opened().operator_times())},
            "time": self._time,
            "memory": lambda _: {"peak_memory_bytes": peak_memory_bytes()},
            "energy": lambda _: {"available": bool(self._meter.counters), "note": self._meter.note},
            "conditions": lambda _: current(),
            "lease": lambda _: {"held": try_lease(self._stack)},
            "watch": self._watching.begin,
            "watched": self._watching.end,
            "about": about,
            "close": lambda _: {"closed": True},
        }
        return actions[request["do"]](request), None

    def _open(self, request: Mapping[str, Any]) -> dict[str, Any]:
        batches = [_load(Path(path)) for path in request.get("inputs", ())]
        self._inputs = cycle(batches)
        options = RunOptions(
            threads=int(request.get("threads", 1)),
            profile=bool(request.get("profile", False)),
            session=dict(request.get("session", {})),
        )
        start = time.perf_counter_ns()
        self._runner = self._stack.enter_context(open_runner(Path(request["artifact"]), options))
        if batches:
            self._runner.run(next(self._inputs))
        return {"load_ms": (time.perf_counter_ns() - start) / 1e6}

    def _opened(self) -> Runner:
        assert self._runner is not None, "open comes first"
        return self._runner

    def _run(self, tensors: Tensors) -> Answer:
        runner = self._opened()
        start = time.perf_counter_ns()
        found = runner.run(tensors)
        return {"ms": (time.perf_counter_ns() - start) / 1e6}, found

    def _time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        run, batches = self._opened().run, self._inputs
        for _ in range(int(request["unrecorded"])):
            run(next(batches))
        began, before = time.monotonic(), self._meter.read()
        milliseconds = []
        for _ in range(int(request["runs"])):
            batch = next(batches)
            start = time.perf_counter_ns()
            run(batch)
            milliseconds.append((time.perf_counter_ns() - start) / 1e6)
        used = self._meter.used(before, self._meter.read())
        energy = used if self._meter.counters else None
        return {"ms": milliseconds, "microjoules": energy, "span": [began, time.monotonic()]}


def about(request: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is installed here and which machine this is; None for a distribution that is not installed."""
    return {
        "edgewright": __version__,
        "python": platform.python_version(),
        "device": encode(local_device()),
        "versions": {str(name): installed_version(str(name)) for name in request.get("distributions", ())},
    }


def _load(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def serve(requests: BinaryIO, answers: BinaryIO) -> int:
    """Answers requests until `close`, an error or the end of the input; returns the exit status."""
    with ExitStack() as stack:
        return _serving.serve(requests, answers, Host(stack).answer, survives={"run", "lease"}.__contains__)


def main() -> int:
    """Keeps standard output for answers alone, then serves."""
    with _serving.own_output() as answers:
        return serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    sys.exit(main())
