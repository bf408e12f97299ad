"""Digests of files and folders, and writes that are all or nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgewright.core.digest import Digest, digest_json
from edgewright.errors import OutOfSpace

_CHUNK = 1 << 20


def digest_file(path: Path) -> Digest:
    """Returns the SHA-256 digest of the bytes of `path`."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return Digest("sha256:" + state.hexdigest())


def list_files(folder: Path) -> tuple[str, ...]:
    """Returns the relative POSIX paths of all regular files below `folder`, sorted."""
    return tuple(sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()))


def digest_files(folder: Path) -> dict[str, Digest]:
    """Returns the digest of every file below `folder` by relative path."""
    return {name: digest_file(folder / name) for name in list_files(folder)}


def digest_of_tree(files: Mapping[str, Digest]) -> Digest:
    """Returns the digest of a folder from the digests of its files: names and contents, nothing else."""
    return digest_json({"files": dict(files)})


def digest_path(path: Path) -> Digest:
    """Returns the digest of a file, or of a folder as a tree."""
    return digest_of_tree(digest_files(path)) if path.is_dir() else digest_file(path)


def write_atomic(path: Path, data: bytes) -> None:
    """Writes `data` to `path` so that a reader sees the old bytes or the new ones, also after power loss.

    Raises:
        OutOfSpace: The disk is full; `path` is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with full_disk_explained(path.parent):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def full_disk_explained(folder: Path) -> Iterator[None]:
    """Turns "no space left" and "quota exceeded" into an error that names the folder and the fix."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(folder) from error
        raise


def full_disk(folder: Path) -> OutOfSpace:
    """Returns the error for a full disk under `folder`."""
    return OutOfSpace(
        f"no space left on the disk that holds {folder}",
        hint="free some space, or run `edgewright cache gc`, then run the same command again: finished steps are kept",
    )
