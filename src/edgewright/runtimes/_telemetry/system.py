"""Files and commands of a machine: this one, one below another root, or one behind a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

COMMAND = "$ "
"""A source that begins so is a command; any other is the absolute path of a file."""
_COMMAND_SECONDS = 5.0
_FILE_BYTES = 1 << 16
"""Files of sysfs have a page at most."""
_MARK = "@@edgewright "


class System(Protocol):
    """How sensors are found and read."""

    def glob(self, pattern: str) -> list[str]:
        """Returns the absolute paths that match, in the order of their names."""

    def read(self, sources: Sequence[str]) -> list[str]:
        """Returns the text of each file or command, stripped; empty where it cannot be read."""

    def has(self, command: str) -> bool:
        """Tells whether a program of that name can be run."""


@dataclass(frozen=True, slots=True)
class LocalSystem:
    """This machine.

    Attributes:
        root: What paths are looked up below.
        path: Where programs are looked for; None for the environment's PATH.
    """

    root: Path = Path("/")
    path: str | None = None

    def glob(self, pattern: str) -> list[str]:
        """See `System`."""
        base = self.root / pattern.lstrip("/").split("*", 1)[0]
        if not (base if pattern.startswith("/") and base.is_dir() else base.parent).is_dir():
            return []
        found = self.root.glob(pattern.lstrip("/"))
        return sorted("/" + str(path.relative_to(self.root)) for path in found)

    def read(self, sources: Sequence[str]) -> list[str]:
        """See `System`."""
        return [self._output(s.removeprefix(COMMAND)) if s.startswith(COMMAND) else self._text(s) for s in sources]

    def has(self, command: str) -> bool:
        """See `System`."""
        return shutil.which(command, path=self.path) is not None

    def _text(self, path: str) -> str:
        """Reads a file in three system calls: several times cheaper than a text stream, and there are many of them."""
        try:
            file = os.open(f"{self.root}{path}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(file, _FILE_BYTES)
            finally:
                os.close(file)
        except OSError:  # sensors answer EAGAIN, EIO and ENODATA when they are asleep
            return ""
        return data.decode("utf-8", "replace").strip("\0\n\t ")

    def _output(self, command: str) -> str:
        program, *arguments = shlex.split(command)
        found = shutil.which(program, path=self.path)
        if found is None:
            return ""
        try:
            done = subprocess.run(
                [found, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True, slots=True)
class ShellSystem:
    """A machine without Python behind a POSIX shell, such as a phone; every call is one round trip.

    Attributes:
        run: Runs a shell command there and returns its standard output.
    """

    run: Callable[[str], str]

    def glob(self, pattern: str) -> list[str]:
        """See `System`."""
        shown = self.run(f'for f in {_unquoted(pattern)}; do [ -e "$f" ] && echo "$f"; done; true')
        return sorted(line for line in shown.splitlines() if line.startswith("/"))

    def read(self, sources: Sequence[str]) -> list[str]:
        """See `System`."""
        if not sources:
            return []
        parts = (f"echo; echo '{_MARK}'; {_shown(source)} 2>/dev/null" for source in sources)
        blocks = self.run("; ".join(parts) + "; true").replace("\r\n", "\n").split(_MARK)[1:]
        texts = [block.strip("\0\n\t ") for block in blocks]
        return texts + [""] * (len(sources) - len(texts))

    def has(self, command: str) -> bool:
        """See `System`."""
        return bool(self.run(f"command -v {shlex.quote(command)}; true").strip())


def _shown(source: str) -> str:
    if source.startswith(COMMAND):
        return source.removeprefix(COMMAND)
    return f"cat {shlex.quote(source)}"


def _unquoted(pattern: str) -> str:
    """Returns the pattern with all but its wildcards quoted."""
    return "".join(c if c in "*?[]" else shlex.quote(c) if not (c.isalnum() or c in "/_-.") else c for c in pattern)
