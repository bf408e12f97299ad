"""Where on this machine an artifact is opened: here, or in the environment of a toolchain that is made for it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import decode_stored
from edgewright.runtimes._open import find_runtime, read_artifact
from edgewright.runtimes._remote import Start, other_interpreter, this_interpreter
from edgewright.store.cache import Cache


@dataclass(frozen=True, slots=True)
class _State:
    """What is needed here of the marker that `edgewright toolchain install` writes last."""

    lock: str
    folder: str
    python: str
    megabytes: int


def toolchain_python(name: str) -> Path | None:
    """Returns the interpreter of an installed toolchain; None where it is not installed."""
    place = Cache.default().root / "toolchains" / name
    try:
        state = decode_stored(_State, (place / "state.json").read_bytes())
    except (OSError, ValueError):
        return None
    python = place / state.folder / "bin" / "python"
    return python if os.access(python, os.X_OK) else None


def start_for(artifact: Path) -> Start:
    """Returns how to start the process that opens `artifact`: a runtime may have `interpreter(artifact)`.

    Raises:
        ToolchainMissing: There is no such runtime.
        Corrupt: The artifact cannot be read.
    """
    described = read_artifact(artifact)
    ask = getattr(find_runtime(described.runtime), "interpreter", None)
    python = ask(described) if ask is not None else None
    return other_interpreter(python) if python is not None else this_interpreter()
