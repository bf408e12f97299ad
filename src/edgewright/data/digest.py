"""The identity of data: what the cache key of a step that reads them holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgewright.core.codec import encode
from edgewright.core.digest import Digest, digest_json
from edgewright.data.code import code_digest
from edgewright.data.function import Function
from edgewright.data.readers import reader_of
from edgewright.data.spec import DataSpec
from edgewright.errors import DataError
from edgewright.pipeline import Preprocess
from edgewright.store.files import digest_file


def data_digest(spec: DataSpec, *, by_content: bool = False) -> Digest:
    """Returns the digest of a spec and of everything it reads.

    Files are told apart by (path, size, modification time, inode), so that large data cost nothing; code is told
    apart by its source.

    Args:
        spec: What is read.
        by_content: Read every file instead: a fresh checkout of the same files then has the same digest.

    Raises:
        DataError: A file is missing.
    """
    root = Path(spec.root)
    files: set[Path] = set(Preprocess.from_spec(spec.preprocess, root).resources().values())
    code: dict[str, str] = {}
    for split, table in spec.splits.items():
        reader = reader_of(table, f"[data.{split}]")
        files.update(reader.files(root))
        if isinstance(reader, Function):
            code[reader.function] = code_digest(reader.function, root)
    return digest_json(
        {"spec": encode(spec), "files": [_entry(path, by_content) for path in sorted(files)], "code": code}
    )


def _entry(path: Path, by_content: bool) -> list[Any]:
    try:
        if by_content:
            return [str(path), digest_file(path)]
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="correct the path, or fetch the data") from error
    return [str(path), status.st_size, status.st_mtime_ns, status.st_ino]
