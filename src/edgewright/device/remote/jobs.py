"""Measurements that outlive the connection that asked for them, each in a folder of its own.

```
jobs/<key>/job.json        what is asked; the key is its digest, so that the same question finds its job again
           lock            held by the process that works on it, however it ends
           journal.jsonl   one finished round per line, never taken back
           progress.json   how far it is
           result.json     the answer; or error.json
           log             what the process printed
```
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.digest import canonical_json, digest_bytes
from edgewright.device.remote.store import Store
from edgewright.errors import UsageError
from edgewright.store.files import write_atomic

DONE, FAILED, RUNNING, STOPPED, UNKNOWN = "done", "failed", "running", "stopped", "unknown"
JOB, LOCK, JOURNAL, PROGRESS, RESULT, ERROR, LOG = (
    "job.json",
    "lock",
    "journal.jsonl",
    "progress.json",
    "result.json",
    "error.json",
    "log",
)
_KEPT_SECONDS = 14 * 24 * 3600.0
_JOURNAL_BYTES = 1 << 20
_LOG_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Jobs:
    """The jobs of one device.

    Attributes:
        store: Where the files that they name lie.
    """

    store: Store

    def folder(self, key: str) -> Path:
        """Returns the folder of a job.

        Raises:
            UsageError: This is no key.
        """
        return self.store.root / "jobs" / self.store.folder(key).name

    def start(self, job: Mapping[str, Any]) -> tuple[str, str]:
        """Starts a job, or finds it: one that runs or is done is left alone, one that stopped goes on.

        Returns:
            Its key and its state.
        """
        text = canonical_json(job)
        key = digest_bytes(text)
        folder = self.folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a") as lock:
            if not _locked(lock.fileno()):
                return key, RUNNING
            if (folder / RESULT).is_file():
                return key, DONE
            (folder / ERROR).unlink(missing_ok=True)
            write_atomic(folder / JOB, text)
            _detach(folder, lock.fileno())
        self._forget_old()
        return key, RUNNING

    def state(self, key: str) -> str:
        """Returns what became of a job."""
        folder = self.folder(key)
        if not (folder / JOB).is_file():
            return UNKNOWN
        with (folder / LOCK).open("a") as lock:
            if not _locked(lock.fileno()):
                return RUNNING
        if (folder / RESULT).is_file():
            return DONE
        return FAILED if (folder / ERROR).is_file() else STOPPED

    def poll(self, key: str, offset: int) -> dict[str, Any]:
        """Returns the state, how far it is, and the lines of the journal from `offset` on.

        The state is looked up first: what is written by the time a job has ended is all there is.
        """
        state, folder = self.state(key), self.folder(key)
        lines, end = _lines(folder / JOURNAL, offset)
        answer = {"state": state, "lines": lines, "offset": end, "progress": _json(folder / PROGRESS)}
        if state == DONE:
            answer["result"] = _json(folder / RESULT)
        if state == FAILED:
            answer["failure"] = _json(folder / ERROR)
        if state in (FAILED, STOPPED):
            answer["log"] = _tail(folder / LOG)
        return answer

    def drop(self, key: str) -> None:
        """Forgets a job whose answer has arrived.

        Raises:
            UsageError: It still runs.
        """
        if self.state(key) == RUNNING:
            raise UsageError(f"the job {key} still runs", hint="wait for it")
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def _forget_old(self) -> None:
        for folder in (self.store.root / "jobs").glob("*"):
            old = time.time() - folder.stat().st_mtime > _KEPT_SECONDS
            if old and self.state(f"sha256:{folder.name}") != RUNNING:
                shutil.rmtree(folder, ignore_errors=True)


def _detach(folder: Path, lock: int) -> None:
    """Starts the process that works on a job; the lock goes with it, and nothing of this session does."""
    with (folder / LOG).open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "edgewright.device.remote.job", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lines(file: Path, offset: int) -> tuple[list[str], int]:
    """Returns whole lines only: the last may be in the middle of being written."""
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            data = opened.read(_JOURNAL_BYTES)
    except FileNotFoundError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode().splitlines(), offset + len(whole)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None


def _tail(file: Path) -> str:
    try:
        return file.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
