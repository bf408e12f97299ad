"""Environments that are installed: found, told apart and read without starting their interpreter.

Layout below `toolchains` in the cache folder::

    tensorflow/state.json       which folder holds the environment, and of which lock: written last
    tensorflow/lock             one installation or removal at a time
    tensorflow/3f9c…/           the environment; any other folder is left over and removed by the next installation
    tensorflow/3f9c….in-use     held by steps that run in it
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode_stored
from edgewright.core.digest import Digest
from edgewright.engine.environments import lock as locks
from edgewright.errors import ToolchainMissing
from edgewright.store.cache import Cache

STATE_FILE = "state.json"
READY, STALE, BROKEN, ABSENT = "ready", "stale", "broken", "absent"
State = str
"""READY, STALE (made from another lock), BROKEN (its interpreter is gone) or ABSENT."""


@dataclass(frozen=True, slots=True)
class Marker:
    """`state.json`.

    Attributes:
        lock: Digest of the lock it was made from.
        folder: Name of the environment's folder, beside this file.
        python: Version of its Python.
        megabytes: Its size.
    """

    lock: Digest
    folder: str
    python: str
    megabytes: int


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment that is whole.

    Attributes:
        name: Of its toolchain.
        folder: Where it is.
        lock: Digest of the lock it was made from.
        python: Version of its Python.
        megabytes: Its size when it was made.
    """

    name: str
    folder: Path
    lock: Digest
    python: str
    megabytes: int

    @property
    def interpreter(self) -> Path:
        """The Python to run steps with."""
        return self.folder / "bin" / "python"

    def versions(self, distributions: Iterable[str] | None = None) -> dict[str, str]:
        """Returns distribution -> installed version, read from metadata.

        Args:
            distributions: Those to tell of, `absent` where one is not there; None for all that are there.
        """
        found = installed_in(self.folder)
        if distributions is None:
            return found
        return {name: found.get(locks.normalised(name), "absent") for name in sorted(set(distributions))}

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps it from being removed meanwhile."""
        with self.folder.with_name(f"{self.folder.name}.in-use").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield


@dataclass(frozen=True, slots=True)
class Status:
    """One toolchain as it stands here.

    Attributes:
        name: Of the toolchain.
        state: `ready`, `stale`, `broken` or `absent`.
        purpose: What it is for.
        environment: What is installed, whatever its state; None where nothing is.
        install: The line that makes it ready; empty when it is.
    """

    name: str
    state: State
    purpose: str
    environment: Environment | None
    install: str


def place(name: str) -> Path:
    """Returns the folder of everything that belongs to one toolchain."""
    return Cache.default().root / "toolchains" / name


def install_line(name: str) -> str:
    """Returns the command that makes a toolchain ready."""
    return f"edgewright toolchain install {name}"


def status(name: str) -> Status:
    """Returns how a toolchain stands here; starts nothing.

    Raises:
        ConfigError: There is no such toolchain.
    """
    lock = locks.read(name)
    found = _recorded(name)
    state = _state(found, lock)
    return Status(name, state, lock.purpose, found, "" if state == READY else install_line(name))


def find(name: str) -> Environment | None:
    """Returns the environment of a toolchain if it is ready.

    Raises:
        ConfigError: There is no such toolchain.
    """
    found = status(name)
    return found.environment if found.state == READY else None


def require(name: str, purpose: str) -> Environment:
    """Returns the environment of a toolchain.

    Args:
        name: Of the toolchain.
        purpose: Who needs it, for the error.

    Raises:
        ToolchainMissing: It is not ready; the hint is the line that makes it so.
        ConfigError: There is no such toolchain.
    """
    found = status(name)
    if found.environment is not None and found.state == READY:
        return found.environment
    why = {
        ABSENT: "is not installed here",
        STALE: "was made for another release of Edgewright",
        BROKEN: "is damaged: its Python does not exist any more",
    }[found.state]
    raise ToolchainMissing(f"{purpose} needs the toolchain {name}, which {why}", hint=found.install)


def needed_by(step: Any) -> Environment | None:
    """Returns the environment that a step (or its class) runs in: its `toolchain`; None for Edgewright's own.

    Raises:
        ToolchainMissing: It is not ready.
    """
    name = getattr(step, "toolchain", "")
    return require(name, f"step {step.name}") if name else None


def installed_in(folder: Path) -> dict[str, str]:
    """Returns distribution, normalised -> version of a virtual environment, from its metadata."""
    paths = [str(path) for path in folder.glob("lib/python3*/site-packages")]
    found = importlib.metadata.distributions(path=paths)
    return {locks.normalised(one.metadata["Name"]): one.version for one in found if one.metadata["Name"]}


def _recorded(name: str) -> Environment | None:
    folder = place(name)
    try:
        marker = decode_stored(Marker, (folder / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    return Environment(name, folder / marker.folder, marker.lock, marker.python, marker.megabytes)


def _state(found: Environment | None, lock: locks.Lock) -> State:
    if found is None:
        return ABSENT
    if not os.access(found.interpreter, os.X_OK):
        return BROKEN
    return READY if found.lock == lock.digest else STALE
