"""The mode the device was in is written down before the first change, and put back however the change ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from edgewright.core.codec import decode_stored, encode_json
from edgewright.device.power.kinds import of_kind
from edgewright.device.power.machine import Machine
from edgewright.device.power.modes import PowerModes
from edgewright.errors import StepFailed
from edgewright.store.files import write_atomic

_FILE, _LOCK = "power-mode.json", "power-mode.lock"


@dataclass(frozen=True, slots=True)
class Before:
    """What is to be put back: the kind of modes, and their snapshot."""

    kind: str
    snapshot: Mapping[str, str]


@contextmanager
def keep(modes: PowerModes, folder: Path | None = None, machine: Machine | None = None) -> Iterator[PowerModes]:
    """Lets the body choose modes, and puts the first one back: after an error, Ctrl-C, a lost session or SIGTERM.

    A process that is killed outright leaves its note behind; the next `keep` or `restore_left_over` follows it.

    Args:
        modes: Of the device.
        folder: Where the note is kept; the user's state folder without it.
        machine: Where a note left behind by another process is followed.

    Raises:
        StepFailed: Another process changes modes at present, or a mode cannot be put back.
    """
    place = folder or state_folder()
    with _locked(place) as lock:
        if lock is None:
            raise StepFailed("another process changes the power mode of this device", hint="wait until it has finished")
        _follow(place, machine or Machine())
        before = Before(modes.kind, modes.snapshot())
        write_atomic(place / _FILE, encode_json(before))
        with _ended_in_order():
            try:
                yield modes
            finally:
                _put_back(modes, before, place)


def restore_left_over(folder: Path | None = None, machine: Machine | None = None) -> str:
    """Puts back the mode that a killed process left behind, unless another one is at work; returns that mode's name.

    Raises:
        StepFailed: It cannot be put back.
    """
    place = folder or state_folder()
    if not (place / _FILE).is_file():
        return ""
    with _locked(place) as lock:
        return "" if lock is None else _follow(place, machine or Machine())


def state_folder() -> Path:
    """Returns the folder for what must outlive a process: `$XDG_STATE_HOME/edgewright`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "edgewright"


def _follow(place: Path, machine: Machine) -> str:
    try:
        before = decode_stored(Before, (place / _FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return ""
    modes = of_kind(before.kind, machine)
    _put_back(modes, before, place)
    return modes.current()


def _put_back(modes: PowerModes, before: Before, place: Path) -> None:
    try:
        modes.put_back(before.snapshot)
    except StepFailed as error:
        left = f"the power mode is not the one it was: {json.dumps(dict(before.snapshot))}; {error.message}"
        raise StepFailed(left, hint=f"{error.hint}; then delete {place / _FILE}") from error
    (place / _FILE).unlink(missing_ok=True)


@contextmanager
def _locked(place: Path) -> Iterator[IO[str] | None]:
    place.mkdir(parents=True, exist_ok=True)
    with (place / _LOCK).open("a") as file:
        yield file if _lock(file) else None


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into an exception, as Ctrl-C is one already."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
