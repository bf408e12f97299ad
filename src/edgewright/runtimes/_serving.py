"""Answers the messages of `_wire` until the other side has said its last."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from edgewright.errors import Corrupt, EdgewrightError
from edgewright.runtimes._wire import HEADER_BYTES, Tensors, pack, parse, unpack

Answer = tuple[dict[str, Any], "Tensors | None"]
Answering = Callable[[Mapping[str, Any], Tensors], Answer]


def serve(requests: BinaryIO, answers: BinaryIO, answer: Answering, survives: Callable[[str], bool]) -> int:
    """Answers requests until `close`, an error or the end of the input; returns the exit status.

    Args:
        requests: What is asked.
        answers: Where answers go.
        answer: Carries out one request.
        survives: Tells by the name of a request whether an error in it leaves the others possible; after a message
            that could not be read there are none.
    """
    while line := requests.readline(HEADER_BYTES):
        what, failed, pieces = _guarded(answer, line, requests)
        for piece in pieces:
            answers.write(piece)
        answers.flush()
        if failed and not (what and survives(what)):
            return 1
        if what == "close":
            return 0
    return 0


def _guarded(answer: Answering, line: bytes, requests: BinaryIO) -> tuple[str, bool, list[bytes | memoryview]]:
    """Returns what was asked for (empty where that could not be read), whether it failed, and the answer."""
    what = ""
    try:
        request = parse(line)
        tensors = unpack(request, lambda size: _exactly(requests, size))
        what = str(request["do"])
        return what, False, pack(*answer(request, tensors))
    except EdgewrightError as error:
        return what, True, pack({"error": type(error).__name__, "message": error.message, "hint": error.hint})
    except Exception as error:  # a runtime raises what it likes; the other side names the artifact
        return what, True, pack({"error": "StepFailed", "message": f"{type(error).__name__}: {error}", "hint": ""})


def _exactly(requests: BinaryIO, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = requests.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise Corrupt(f"the tensors end after {done} of {size} bytes", hint="the other side ended; start it again")
        done += count
    return data


def own_output() -> BinaryIO:
    """Keeps standard output for answers alone: whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers
