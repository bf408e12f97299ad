"""The archive format: a plain zip of which only one byte sequence is valid for given contents.

Any tool can open it. Reading accepts exactly what `write` makes: stored entries in ascending order without gaps,
fixed times and modes, no extra fields and no comments. So there is nothing to decompress, nothing can overlap or
hide, and two readers cannot see different contents in the same file.

Format: PKWARE APPNOTE 6.3, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16 (end record).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from edgewright.core.digest import Digest
from edgewright.errors import Corrupt, UsageError
from edgewright.store.files import full_disk_explained

MAX_BYTES = 4_000_000_000
MAX_ENTRIES = 4096
MAX_NAME = 240
CHUNK = 1 << 20

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION = 20
_DATE = (1 << 5) | 1  # 1980-01-01, the first day a zip can name
_UNIX_FILE = (3 << 8) | _VERSION
_MODE = 0o100644 << 16
_PART = re.compile(r"[A-Za-z0-9_+@=-][A-Za-z0-9_.+@= -]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file.

    Attributes:
        name: Relative path with `/`.
        size: In bytes.
        crc: CRC-32 of the content.
        offset: Of its local header in the archive.
    """

    name: str
    size: int
    crc: int
    offset: int


@dataclass(frozen=True, slots=True)
class Archive:
    """The table of contents of an archive on disk."""

    path: Path
    entries: Mapping[str, Entry]

    def read(self, name: str, limit: int) -> bytes:
        """Returns the content of a small entry.

        Raises:
            Corrupt: It is missing, larger than `limit` or damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            _corrupt(self.path, f"holds no {name}")
        if entry.size > limit:
            _corrupt(self.path, f"{name} has {entry.size} bytes, at most {limit} are allowed")
        return b"".join(self.chunks(entry))

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """Yields the content of `entry`, checking its header first and its CRC at the end."""
        crc, left = 0, entry.size
        with self.path.open("rb") as stream:
            stream.seek(entry.offset)
            header = _local_header(entry)
            if stream.read(len(header)) != header:
                _corrupt(self.path, f"the header of {entry.name} is damaged")
            while left:
                data = stream.read(min(CHUNK, left))
                if not data:
                    _corrupt(self.path, f"ends inside {entry.name}")
                crc, left = zlib.crc32(data, crc), left - len(data)
                yield data
        if crc != entry.crc:
            _corrupt(self.path, f"the content of {entry.name} is damaged")


def write(path: Path, contents: Mapping[str, Path | bytes]) -> None:
    """Writes `contents` (name -> file or bytes) as one archive, to a temporary name first.

    Raises:
        UsageError: A name cannot be stored, or there is too much of it.
        OutOfSpace: The disk is full.
    """
    names = sorted(contents)
    for name in names:
        problem = name_problem(name)
        if problem:
            raise UsageError(f"{path.name}: cannot store {name!r}: {problem}", hint="rename the file")
    if names_problem(names):
        raise UsageError(f"{path.name}: {names_problem(names)}", hint="rename the file")
    if len(names) > MAX_ENTRIES:
        raise UsageError(f"{path.name}: {len(names)} files, at most {MAX_ENTRIES}", hint="join small files into one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as stream:
        _write_entries(stream, path, [(name, contents[name]) for name in names])


def _write_entries(stream: BinaryIO, path: Path, items: list[tuple[str, Path | bytes]]) -> None:
    entries: list[Entry] = []
    for name, content in items:
        size, crc = _measure(content)
        if stream.tell() + size > MAX_BYTES:
            raise UsageError(f"{path.name}: more than {MAX_BYTES} bytes", hint="pack a smaller artifact")
        entry = Entry(name, size, crc, stream.tell())
        stream.write(_local_header(entry))
        for chunk in _content(content):
            stream.write(chunk)
        entries.append(entry)
    start = stream.tell()
    directory = b"".join(map(_central_header, entries))
    stream.write(directory)
    stream.write(_end_record(len(entries), len(directory), start))


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with full_disk_explained(path.parent):
        try:
            with partial.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read_contents(path: Path) -> Archive:
    """Reads the table of contents and checks every rule that needs no content.

    Raises:
        UsageError: There is no such file.
        Corrupt: It is not an archive that `write` could have made.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such bundle", hint="give the path of an .ewb file made by `edgewright pack`")
    size = path.stat().st_size
    if not _END.size <= size <= MAX_BYTES + MAX_ENTRIES * 1024:
        _corrupt(path, f"has {size} bytes")
    with path.open("rb") as stream:
        stream.seek(size - _END.size)
        end = stream.read(_END.size)
        signature, _, _, _, count, length, start, _ = _END.unpack(end)
        if signature != b"PK\5\6" or start + length + _END.size != size or count > MAX_ENTRIES:
            _corrupt(path, "its end record is missing: the file is cut short or is not a bundle")
        if end != _end_record(count, length, start) or length > MAX_ENTRIES * (_CENTRAL.size + MAX_NAME):
            _corrupt(path, "its end record is damaged")
        stream.seek(start)
        directory = stream.read(length)
    return Archive(path, _parse_directory(path, directory, count, start))


def _parse_directory(path: Path, directory: bytes, count: int, start: int) -> dict[str, Entry]:
    entries: list[Entry] = []
    position = offset = 0
    for _ in range(count):
        if position + _CENTRAL.size > len(directory):
            _corrupt(path, "its directory is cut short")
        fields = _CENTRAL.unpack_from(directory, position)
        crc, size, length = fields[7], fields[9], fields[10]
        end = position + _CENTRAL.size + length
        entry = Entry(directory[position + _CENTRAL.size : end].decode("ascii", "replace"), size, crc, offset)
        problem = name_problem(entry.name)
        if problem:
            _corrupt(path, f"the entry {entry.name!r} is refused: {problem}")
        if directory[position:end] != _central_header(entry):
            _corrupt(path, f"the directory entry of {entry.name!r} is not as Edgewright writes it")
        entries.append(entry)
        position, offset = end, offset + _LOCAL.size + length + size
    if position != len(directory) or offset != start:
        _corrupt(path, "holds bytes that belong to no file")
    problem = names_problem([entry.name for entry in entries])
    if problem:
        _corrupt(path, problem)
    return {entry.name: entry for entry in entries}


def names_problem(names: Sequence[str]) -> str:
    """Says why these names cannot be the entries of one archive; empty when they can."""
    for before, after in itertools.pairwise(names):
        if before >= after:
            return f"the entry {after!r} is a duplicate or out of order"
    lower = {name.lower() for name in names}
    if len(lower) != len(names):
        return "two entries differ only in upper and lower case"
    folders = {name.lower().rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)}
    both = sorted(folders & lower)
    return f"the entry {both[0]!r} is both a file and a folder" if both else ""


def name_problem(name: str) -> str:
    """Says why `name` cannot be an entry; empty when it can."""
    if not name or len(name) > MAX_NAME:
        return f"its length is not between 1 and {MAX_NAME}"
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        return "only relative paths of letters, digits and _ . + @ = - are allowed"
    return ""


def _content(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _measure(content: Path | bytes) -> tuple[int, int]:
    size = crc = 0
    for chunk in _content(content):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return size, crc


def digest_content(content: Path | bytes) -> tuple[int, Digest]:
    """Returns size in bytes and digest of a file or of bytes."""
    hasher, size = hashlib.sha256(), 0
    for chunk in _content(content):
        hasher.update(chunk)
        size += len(chunk)
    return size, Digest("sha256:" + hasher.hexdigest())


def _local_header(entry: Entry) -> bytes:
    name = entry.name.encode()
    sizes = (entry.crc, entry.size, entry.size, len(name), 0)
    return _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, 0, _DATE, *sizes) + name


def _central_header(entry: Entry) -> bytes:
    name = entry.name.encode()
    sizes = (entry.crc, entry.size, entry.size, len(name), 0, 0, 0, 0)
    return _CENTRAL.pack(b"PK\1\2", _UNIX_FILE, _VERSION, 0, 0, 0, _DATE, *sizes, _MODE, entry.offset) + name


def _end_record(count: int, length: int, start: int) -> bytes:
    return _END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0)


def _corrupt(path: Path, problem: str) -> NoReturn:
    raise Corrupt(f"{path}: {problem}", hint="fetch the bundle again or pack it anew; nothing of it was used")
