"""The action cache: key of a step -> folder it made, kept until collected.

Layout below the root::

    actions/ab/abcd….json    one StepRecord with the digests of the files it made
    outputs/ab/abcd…/        the folders, named by the digest of their tree, never changed
    scratch/abcd…/           checkpoints of steps that have not finished
    tmp/…                    being written; anything here may vanish at any time
    locks/abcd…              one writer per key

An output is renamed into place before its action is written, so an action never names a missing output
unless something outside removed it; reading checks every byte and takes damage for a miss.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.digest import Digest
from edgewright.core.step import StepRecord
from edgewright.errors import UsageError
from edgewright.store.files import (
    digest_files,
    digest_of_tree,
    full_disk_explained,
    list_files,
    sync_folder,
    write_atomic,
)


@dataclass(frozen=True, slots=True)
class Action:
    """One line of the cache: what ran and which files it made."""

    record: StepRecord
    files: Mapping[str, Digest]


@dataclass(frozen=True, slots=True)
class Hit:
    """A finished step found in the cache."""

    record: StepRecord
    path: Path


class Cache:
    """The folder of results. Safe for several processes at once, and against being killed at any moment."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def default(cls) -> Cache:
        """Returns the user's cache: `EDGEWRIGHT_CACHE`, else `edgewright` in the XDG cache folder."""
        chosen = os.environ.get("EDGEWRIGHT_CACHE")
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return cls(Path(chosen).expanduser() if chosen else Path(base).expanduser() / "edgewright")

    def find(self, key: Digest) -> Hit | None:
        """Returns the finished step, or None when there is none or when a file of it is damaged."""
        action = self._read_action(key)
        if action is None:
            return None
        path = self.output_path(action.record.output)
        if not _intact(path, action.files):
            self._forget(key, path)
            return None
        with contextlib.suppress(OSError):
            os.utime(self._action_path(key))
        return Hit(action.record, path)

    def output_path(self, output: Digest) -> Path:
        """Returns where the folder with this digest is, or would be."""
        return self._place("outputs", output)

    @contextlib.contextmanager
    def writer(self, key: Digest) -> Iterator[Path]:
        """Locks `key` and gives an empty folder to write into; removed afterwards unless committed."""
        with full_disk_explained(self.root), self._flock(_name(key), fcntl.LOCK_EX):
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.root / "tmp", prefix=_name(key)[:12] + "-"))
            try:
                (folder / "out").mkdir()
                yield folder / "out"
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def commit(self, record: StepRecord, made: Path) -> Hit:
        """Moves the finished folder `made` into the cache and writes its action.

        Args:
            record: What ran; its `output` is filled in here.
            made: A folder given by `writer`.
        """
        files = digest_files(made)
        output = digest_of_tree(files)
        path = self.output_path(output)
        with full_disk_explained(self.root):
            _make_durable(made)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not _intact(path, files):
                self._discard(path)
            if not path.exists():
                made.replace(path)
                sync_folder(path.parent)
            record = replace(record, output=output)
            write_atomic(self._action_path(record.key), encode_json(Action(record, files)))
        shutil.rmtree(self.scratch(record.key), ignore_errors=True)
        return Hit(record, path)

    def scratch(self, key: Digest) -> Path:
        """Returns the folder kept for `key` until its step succeeds."""
        return self.root / "scratch" / _name(key)

    def _read_action(self, key: Digest) -> Action | None:
        try:
            action = decode_stored(Action, self._action_path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return action if action.record.key == key else None

    def _forget(self, key: Digest, path: Path) -> None:
        with contextlib.suppress(OSError):
            self._action_path(key).unlink()
        if path.exists():
            self._discard(path)

    def _discard(self, path: Path) -> None:
        """Moves a damaged folder away first, so that nobody sees it half removed."""
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        grave = Path(tempfile.mkdtemp(dir=self.root / "tmp", prefix="damaged-"))
        with contextlib.suppress(OSError):
            path.replace(grave / "out")
        shutil.rmtree(grave, ignore_errors=True)

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Keeps garbage collection away while results are in use."""
        with full_disk_explained(self.root), self._flock("in-use", fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Waits for nobody: the cache is ours alone, or it is refused.

        Raises:
            UsageError: Another process is using the cache.
        """
        try:
            with self._flock("in-use", fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield
        except BlockingIOError as error:
            message = f"the cache {self.root} is in use by another edgewright process"
            raise UsageError(message, hint="wait until it has finished, then try again") from error

    @contextlib.contextmanager
    def _flock(self, name: str, mode: int) -> Iterator[None]:
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("w") as file:
            fcntl.flock(file, mode)
            yield

    def _action_path(self, key: Digest) -> Path:
        return self._place("actions", key).with_suffix(".json")

    def _place(self, kind: str, digest: Digest) -> Path:
        name = _name(digest)
        return self.root / kind / name[:2] / name


def _name(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


def _intact(path: Path, files: Mapping[str, Digest]) -> bool:
    try:
        return list_files(path) == tuple(sorted(files)) and digest_files(path) == dict(files)
    except OSError:
        return False


def _make_durable(folder: Path) -> None:
    for name in list_files(folder):
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(folder)
