"""An exclusive lease on a device: two measurements of time never run at once."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgewright.errors import StepFailed

_POLL_SECONDS = 0.2


@contextmanager
def lease(device: str, progress: Callable[[float, str], None]) -> Iterator[None]:
    """Waits until no other process of this user measures on `device`, and keeps others waiting meanwhile.

    The lock belongs to the open file: it ends with the process, however that ends.

    Raises:
        StepFailed: The folder of the lock is not this user's.
    """
    with _lock_file(device).open("a") as file:
        told = False
        while not _try_lock(file.fileno()):
            if not told:
                progress(0.0, f"waiting: another process measures on {device}")
            told = True
            time.sleep(_POLL_SECONDS)
        yield


def try_lease(stack: ExitStack, device: str = "local") -> bool:
    """Takes the lease until `stack` ends, if it is free at this moment; returns whether it was."""
    with ExitStack() as mine:
        file = mine.enter_context(_lock_file(device).open("a"))
        if not _try_lock(file.fileno()):
            return False
        stack.push(mine.pop_all())
        return True


def _lock_file(device: str) -> Path:
    return runtime_folder() / f"device-{device}.lock"


def runtime_folder() -> Path:
    """Returns the folder of this user's locks, made if need be: the same one in every session.

    `XDG_RUNTIME_DIR` would not do: it is another one without a login session, and goes away with the last.

    Raises:
        StepFailed: It belongs to somebody else.
    """
    folder = Path(tempfile.gettempdir()) / f"edgewright-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StepFailed(f"{folder} belongs to another user", hint="set TMPDIR to a folder of your own")
    return folder


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
