"""Starts a detached measurement on a device and follows it to its end, across broken connections."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgewright import errors
from edgewright.core.codec import decode
from edgewright.core.measurement import Timing
from edgewright.device.remote.jobs import DONE, FAILED, STOPPED, UNKNOWN
from edgewright.device.timing.timed import Round
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.measure.devices.sending import Ask

_POLL_SECONDS = 0.5
_RESTARTS = 3


def await_timing(
    ask: Ask, job: Mapping[str, Any], title: str, progress: Callable[[float, str], None]
) -> tuple[Timing, tuple[Round, ...]]:
    """Returns what a job measured, and its rounds in the order they were taken.

    Raises:
        StepFailed: The process over there ends again and again without getting any further.
        EdgewrightError: As raised over there.
    """
    key = str(ask({"do": "start", "job": dict(job)}, None)["key"])
    lines: list[str] = []
    offset, left = 0, _RESTARTS
    while True:
        found = ask({"do": "poll", "key": key, "offset": offset}, None)
        if found["lines"]:
            left = _RESTARTS
        lines, offset = lines + found["lines"], int(found["offset"])
        if found["progress"] is not None:
            progress(*found["progress"])
        if found["state"] == DONE and not found["lines"]:
            break
        if found["state"] == FAILED:
            ask({"do": "drop", "key": key}, None)
            raise _reported(found["failure"], title)
        if found["state"] == UNKNOWN:  # somebody else asked the same, and took the answer
            lines, offset = [], 0
        if found["state"] in (STOPPED, UNKNOWN):
            left -= 1
            if not left:
                raise StepFailed(f"{title}: the measurement ended:\n{found.get('log', '')}", hint="see its log above")
            ask({"do": "start", "job": dict(job)}, None)
        if not found["lines"]:
            time.sleep(_POLL_SECONDS)
    timing = decode(Timing, found["result"], f"answer of {title}")
    ask({"do": "drop", "key": key}, None)
    return timing, tuple(decode(Round, json.loads(line), f"round of {title}") for line in lines)


def _reported(error: Mapping[str, Any], title: str) -> EdgewrightError:
    kind = getattr(errors, str(error["error"]), StepFailed)
    if not (isinstance(kind, type) and issubclass(kind, EdgewrightError)):
        kind = StepFailed
    return kind(f"{title}: {error['message']}", hint=str(error["hint"]))
