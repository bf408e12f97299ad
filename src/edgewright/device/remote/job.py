"""Works on one job, detached from everything: `python -m edgewright.device.remote.job FOLDER`; see `jobs`."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode, encode
from edgewright.core.measurement import Timing
from edgewright.device.remote.jobs import ERROR, JOB, JOURNAL, PROGRESS, RESULT
from edgewright.device.remote.store import Store
from edgewright.device.timing.timed import Question, Round, time_artifact
from edgewright.errors import ConfigError, EdgewrightError
from edgewright.runtimes._lease import lease
from edgewright.store.files import write_atomic


class Journal:
    """The finished rounds of a job, each on the disk before the next begins.

    Attributes:
        earlier: Rounds that an earlier process of the same job finished.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.earlier: tuple[Round, ...] = tuple(map(_round, self._repaired()))

    def _repaired(self) -> list[str]:
        """Cuts off a line that was being written when the power went."""
        data = self._file.read_bytes() if self._file.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self._file, len(whole))
        return whole.decode().splitlines()

    def add(self, found: Round) -> None:
        """Appends a round."""
        with self._file.open("ab") as file:
            file.write(json.dumps(encode(found), separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _round(line: str) -> Round:
    found = decode(Round, json.loads(line), JOURNAL)
    return Round(_unwatched(found.candidate), found.reference and _unwatched(found.reference))


def _unwatched(block: Any) -> Any:
    """The clock of the blocks is that of a process which is no more."""
    from dataclasses import replace

    return replace(block, span=None)


def work(folder: Path) -> int:
    """Does the job and writes its answer; returns the exit status."""
    try:
        answer = encode(_timed(folder, json.loads((folder / JOB).read_bytes())))
    except EdgewrightError as error:
        return _failed(folder, type(error).__name__, error.message, error.hint)
    except Exception as error:  # whoever asked sees it; here nobody looks
        traceback.print_exc()
        return _failed(folder, "StepFailed", f"{type(error).__name__}: {error}", "the log of the job says where")
    write_atomic(folder / RESULT, json.dumps(answer).encode())
    return 0


def _timed(folder: Path, job: Mapping[str, Any]) -> Timing:
    if job.get("kind") != "time":
        raise ConfigError(f"unknown kind of job: {job.get('kind')!r}", hint="use the same Edgewright on both sides")
    store, journal = Store(folder.parents[1]), Journal(folder / JOURNAL)
    samples = sorted(store.folder(job["samples"]).glob("*.npz"), key=lambda path: int(path.stem))
    reference = store.folder(job["reference"]) if job.get("reference") else None

    def progress(fraction: float, note: str) -> None:
        partial = folder / f".{PROGRESS}"
        partial.write_text(json.dumps([fraction, note]))
        partial.replace(folder / PROGRESS)

    with lease("local", progress):
        return time_artifact(
            store.folder(job["artifact"]),
            reference,
            samples,
            decode(Question, job["question"], "question"),
            progress,
            earlier=journal.earlier,
            record=journal.add,
        )


def _failed(folder: Path, kind: str, message: str, hint: str) -> int:
    write_atomic(folder / ERROR, json.dumps({"error": kind, "message": message, "hint": hint}).encode())
    return 1


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
