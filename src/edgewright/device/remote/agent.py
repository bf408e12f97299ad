"""Answers for a device: `python -m edgewright.device.remote.agent [ROOT]`, in the messages of `runtimes._wire`.

```
{"do": "about", "distributions": [...]}        -> as `runtimes.host`, and "sources": digest of the device half
{"do": "conditions"}                           -> as `runtimes.host`
{"do": "power_modes"}                          -> {"modes": {"kind", "names", "current"}}
{"do": "has", "digest": D}                     -> {"path": PATH | null}
{"do": "arrived", "digest": D, "files": {path: size}}             -> {"arrived": {path: bytes}}
{"do": "put", "digest": D, "name": path, "offset": 0} + data      -> {"size": bytes}
{"do": "commit", "digest": D, "files": {path: digest}}            -> {"path": PATH}
{"do": "start", "job": {...}}                  -> {"key": K, "state": "running"}
{"do": "poll", "key": K, "offset": 0}          -> {"state", "lines", "offset", "progress", "result" | "failure" | "log"}
{"do": "drop", "key": K}                       -> {}
```

Every request can be repeated: what was done already is not done again. An error never ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode
from edgewright.device.power import known
from edgewright.device.remote.identity import source_digest
from edgewright.device.remote.jobs import Jobs
from edgewright.device.remote.store import Store
from edgewright.errors import UsageError
from edgewright.runtimes import _serving
from edgewright.runtimes._conditions import current
from edgewright.runtimes._serving import Answer
from edgewright.runtimes._wire import Tensors
from edgewright.runtimes.host import about

ROOT = ".cache/edgewright/device"
"""In the user's home."""


class Agent:
    """What a device answers.

    Args:
        root: Folder for files and jobs.
    """

    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self._jobs = Jobs(self._store)

    def answer(self, request: Mapping[str, Any], tensors: Tensors) -> Answer:
        """Carries out one request.

        Raises:
            EdgewrightError: It cannot be.
        """
        actions: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "about": lambda asked: {**about(asked), "sources": source_digest()},
            "conditions": lambda _: current(),
            "power_modes": lambda _: {"modes": encode(known())},
            "has": self._has,
            "arrived": lambda asked: {"arrived": self._store.arrived(asked["digest"], asked["files"])},
            "put": lambda asked: self._put(asked, tensors),
            "commit": lambda asked: {"path": str(self._store.commit(asked["digest"], asked["files"]))},
            "start": lambda asked: dict(zip(("key", "state"), self._jobs.start(asked["job"]), strict=True)),
            "poll": lambda asked: self._jobs.poll(asked["key"], int(asked["offset"])),
            "drop": self._drop,
            "close": lambda _: {"closed": True},
        }
        if request["do"] not in actions:
            raise UsageError(f"unknown request {request['do']!r}", hint="use the same Edgewright on both sides")
        return actions[request["do"]](request), None

    def _has(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        digest = asked["digest"]
        return {"path": str(self._store.folder(digest)) if self._store.has(digest) else None}

    def _put(self, asked: Mapping[str, Any], tensors: Tensors) -> dict[str, Any]:
        data = tensors["data"].data.cast("B")
        return {"size": self._store.put(asked["digest"], asked["name"], int(asked["offset"]), data)}

    def _drop(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        self._jobs.drop(asked["key"])
        return {}


def main() -> int:
    """Serves one connection; returns the exit status."""
    root = Path(sys.argv[1]).expanduser() if len(sys.argv) > 1 else Path.home() / ROOT
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _serving.own_output() as answers:
        return _serving.serve(sys.stdin.buffer, answers, Agent(root.resolve()).answer, survives=lambda what: True)


if __name__ == "__main__":
    sys.exit(main())
