"""The requests by which another process asks for telemetry; `edgewright.runtimes.host` answers them.

```
{"do": "watch", "seconds": 0.1}   -> {"sensors": ["cpu-thermal", ...]}, and sampling goes on until
{"do": "watched"}                 -> {"log": {...}}, see `edgewright.core.telemetry.Log`
```
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from edgewright.core.codec import encode
from edgewright.runtimes._telemetry.sampler import INTERVAL, Sampler
from edgewright.runtimes._telemetry.system import LocalSystem, System


class Watching:
    """The state between `watch` and `watched`.

    Args:
        stack: Ends the sampling with the process that answers.
        system: What is watched.
    """

    def __init__(self, stack: ExitStack, system: System | None = None) -> None:
        self._stack, self._system = stack, system or LocalSystem()
        self._sampler: Sampler | None = None

    def begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answers `watch`."""
        sampler = Sampler(self._system, float(request.get("seconds", INTERVAL)))
        self._sampler = self._stack.enter_context(sampler)
        return {"sensors": [sensor.name for sensor in sampler.found.sensors]}

    def end(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Answers `watched`."""
        assert self._sampler is not None, "watch comes first"
        return {"log": encode(self._sampler.stop())}
