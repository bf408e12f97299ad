"""Sends folders and files to a device, once, and goes on where an earlier attempt broke off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.digest import Digest
from edgewright.errors import Corrupt
from edgewright.runtimes._wire import Tensors
from edgewright.store.files import digest_file, digest_files, digest_of_tree

PIECE_BYTES = 1 << 20
_ATTEMPTS = 3

Ask = Callable[[Mapping[str, Any], "Tensors | None"], dict[str, Any]]


def send_folder(ask: Ask, folder: Path, progress: Callable[[float, str], None]) -> tuple[Digest, str]:
    """Makes the files of a folder be on a device.

    Args:
        ask: Puts a request to the agent of the device.
        folder: Its files, below it at any depth.
        progress: Told how far it is.

    Returns:
        The digest of the tree, and the path of the folder there.

    Raises:
        Corrupt: Files arrive damaged again and again.
    """
    files = digest_files(folder)
    return send_files(ask, {name: folder / name for name in files}, files, progress)


def send_as(ask: Ask, files: Mapping[str, Path], progress: Callable[[float, str], None]) -> tuple[Digest, str]:
    """Makes files be on a device in one folder, by the names given."""
    return send_files(ask, files, {name: digest_file(path) for name, path in files.items()}, progress)


def send_files(
    ask: Ask, files: Mapping[str, Path], digests: Mapping[str, Digest], progress: Callable[[float, str], None]
) -> tuple[Digest, str]:
    """Makes files with known digests be on a device; see `send_folder`."""
    digest = digest_of_tree(digests)
    there = ask({"do": "has", "digest": digest}, None)["path"]
    for attempt in range(1, _ATTEMPTS + 1):
        if there is not None:
            break
        _send_missing(ask, digest, files, progress)
        try:
            there = ask({"do": "commit", "digest": digest, "files": dict(digests)}, None)["path"]
        except Corrupt:
            if attempt == _ATTEMPTS:
                raise
    return digest, str(there)


def _send_missing(ask: Ask, digest: Digest, files: Mapping[str, Path], progress: Callable[[float, str], None]) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    arrived = ask({"do": "arrived", "digest": digest, "files": sizes}, None)["arrived"]
    total, done = max(1, sum(sizes.values())), sum(arrived.values())
    for name, path in files.items():
        with path.open("rb") as file:
            offset = file.seek(int(arrived[name]))
            while piece := file.read(PIECE_BYTES):
                request = {"do": "put", "digest": digest, "name": name, "offset": offset}
                ask(request, {"data": np.frombuffer(piece, np.uint8)})
                offset, done = offset + len(piece), done + len(piece)
                progress(done / total, f"sending {name}")
