"""Files kept by the digest of what they are: sent once, resumed where they broke off, checked before they count.

```
store/<digest>/        whole and checked
incoming/<digest>/     arriving
```
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgewright.core.digest import Digest
from edgewright.errors import Corrupt, UsageError
from edgewright.store.files import digest_file, digest_files, digest_of_tree, full_disk_explained

LIMIT_BYTES = 8 << 30
_LEAST_AGE_SECONDS = 24 * 3600.0
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Store:
    """The files below one folder of the device.

    Attributes:
        root: That folder.
    """

    root: Path

    def folder(self, digest: str) -> Path:
        """Returns where a folder of files lies once it is whole.

        Raises:
            UsageError: This is no digest.
        """
        return self.root / "store" / _hex(digest)

    def has(self, digest: str) -> bool:
        """Tells whether the files are here, undamaged; damaged ones are removed."""
        folder = self.folder(digest)
        if not folder.is_dir():
            return False
        if digest_of_tree(digest_files(folder)) == digest:
            with contextlib.suppress(OSError):
                os.utime(folder)
            return True
        shutil.rmtree(folder, ignore_errors=True)
        return False

    def arrived(self, digest: str, files: Mapping[str, int]) -> dict[str, int]:
        """Returns how many bytes of each file have arrived.

        Args:
            digest: Of the tree.
            files: Path -> its size; a longer file is damaged, and counts as nothing.
        """
        with self._alone():
            return {name: self._arrived(digest, name, size) for name, size in files.items()}

    def _arrived(self, digest: str, name: str, size: int) -> int:
        file = self._incoming(digest, name)
        found = file.stat().st_size if file.is_file() else 0
        if found > size:
            file.unlink()
            return 0
        return found

    def put(self, digest: str, name: str, offset: int, data: bytes | memoryview) -> int:
        """Writes a piece of a file and returns the size of the file.

        Raises:
            UsageError: The path leaves the folder, or a piece before this one is missing.
            OutOfSpace: The disk is full.
        """
        with self._alone():
            if self.folder(digest).is_dir():  # another sender was faster
                return offset + len(data)
            return self._put(self._incoming(digest, name), name, offset, data)

    def _put(self, file: Path, name: str, offset: int, data: bytes | memoryview) -> int:
        file.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_explained(file.parent), file.open("r+b" if file.exists() else "w+b") as opened:
            size = opened.seek(0, os.SEEK_END)
            if offset > size:
                raise UsageError(f"{name}: a piece at {offset}, and {size} bytes are here", hint="send what is missing")
            opened.seek(offset)
            opened.write(data)
            return max(size, offset + len(data))

    def commit(self, digest: str, files: Mapping[str, str]) -> Path:
        """Checks everything that arrived and puts it in place; one sender after another, where several send the same.

        Args:
            digest: Of the tree.
            files: Path -> digest.

        Raises:
            Corrupt: A file is not what it was promised to be; it is removed, and can be sent again.
        """
        with self._alone():
            return self._committed(digest, files)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lets one process at a time look at and change what arrives."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "store.lock").open("a") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
            yield

    def _committed(self, digest: str, files: Mapping[str, str]) -> Path:
        place = self.folder(digest)
        if self.has(digest):
            return place
        incoming = self.root / "incoming" / _hex(digest)
        wrong = [name for name, expected in files.items() if not self._sound(digest, name, expected)]
        if wrong or digest_of_tree({name: Digest(found) for name, found in files.items()}) != digest:
            what = wrong[0] if wrong else "the list of files"
            raise Corrupt(f"{what} did not arrive as it was sent ({digest})", hint="send it again")
        for stray in sorted(set(digest_files(incoming)) - set(files)):
            (incoming / stray).unlink()
        place.parent.mkdir(parents=True, exist_ok=True)
        incoming.rename(place)
        self.prune(LIMIT_BYTES)
        return place

    def _sound(self, digest: str, name: str, expected: str) -> bool:
        file = self._incoming(digest, name)
        if not file.exists() and not file.is_symlink() and expected == _EMPTY:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        if not file.is_file() or digest_file(file) != expected:
            file.unlink(missing_ok=True)
            return False
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        return True

    def prune(self, limit: int, least_age: float = _LEAST_AGE_SECONDS) -> None:
        """Removes what was not used for longest until at most `limit` bytes are left; what is young stays."""
        entries = [path for name in ("store", "incoming") for path in (self.root / name).glob("*") if path.is_dir()]
        sized = [(path.stat().st_mtime, _size(path), path) for path in entries]
        total = sum(size for _, size, _ in sized)
        for used, size, path in sorted(sized, key=lambda entry: entry[0]):
            if total <= limit or time.time() - used < least_age:
                return
            shutil.rmtree(path, ignore_errors=True)
            total -= size

    def _incoming(self, digest: str, name: str) -> Path:
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in name:
            raise UsageError(f"the path {name!r} leaves its folder", hint="send paths relative to the folder")
        return self.root / "incoming" / _hex(digest) / relative


_EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _hex(digest: Any) -> str:
    found = _DIGEST.fullmatch(str(digest))
    if found is None:
        raise UsageError(f"{str(digest)[:80]!r} is no digest", hint="a digest is sha256: and 64 hexadecimal digits")
    return found.group(1)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
