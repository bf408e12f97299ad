"""Garbage collection of the action cache: least recently used first, down to a size."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import decode_stored
from edgewright.store.cache import Action, Cache

_ABANDONED_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did.

    Attributes:
        kept_actions: Finished steps still there.
        removed_actions: Finished steps forgotten.
        kept_bytes: Size of the cache afterwards.
        freed_bytes: Size removed.
    """

    kept_actions: int
    removed_actions: int
    kept_bytes: int
    freed_bytes: int


def collect(cache: Cache, max_bytes: int, *, now: float | None = None) -> Collected:
    """Removes the least recently used results until the cache holds at most `max_bytes`.

    Also removes outputs that no action names and temporary folders abandoned for a day.
    """
    with cache.exclusive():
        return _collect(cache, max_bytes, (now or time.time()) - _ABANDONED_AFTER_S)


def _collect(cache: Cache, max_bytes: int, abandoned_before: float) -> Collected:
    before = size_of_results(cache.root)
    _remove_abandoned(cache.root, abandoned_before)
    actions = _actions_newest_first(cache)
    kept: set[Path] = set()
    total, removed = 0, 0
    for path, output in actions:
        size = 0 if output in kept else _size(output)
        if total + size <= max_bytes and output.exists():
            kept.add(output)
            total += size
        else:
            path.unlink(missing_ok=True)
            removed += 1
    _remove_outputs_except(cache.root / "outputs", kept)
    after = size_of_results(cache.root)
    return Collected(len(actions) - removed, removed, after, before - after)


def _actions_newest_first(cache: Cache) -> list[tuple[Path, Path]]:
    found: list[tuple[float, Path, Path]] = []
    for path in (cache.root / "actions").glob("*/*.json"):
        try:
            action = decode_stored(Action, path.read_bytes())
            found.append((path.stat().st_mtime, path, cache.output_path(action.record.output)))
        except (OSError, ValueError):
            path.unlink(missing_ok=True)
    return [(path, output) for _, path, output in sorted(found, key=lambda f: f[0], reverse=True)]


def _remove_outputs_except(folder: Path, kept: set[Path]) -> None:
    for output in folder.glob("*/*"):
        if output not in kept:
            shutil.rmtree(output, ignore_errors=True)


def _remove_abandoned(root: Path, older_than: float) -> None:
    for folder in (*(root / "tmp").glob("*"), *(root / "scratch").glob("*")):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < older_than:
                shutil.rmtree(folder, ignore_errors=True)


def size_of_results(root: Path) -> int:
    """Leaves out toolchains, which are kept until they are removed by name."""
    return sum(_size(root / kind) for kind in ("actions", "outputs", "scratch", "tmp"))


def _size(path: Path) -> int:
    total = 0
    for file in path.rglob("*"):
        with contextlib.suppress(OSError):
            if file.is_file():
                total += file.stat().st_size
    return total
