"""Raw inputs as files: what pre-processing takes first, before anything is decoded.

Encoded images and sounds stay the bytes they are; arrays become `.npy` (never pickled), text `.txt`, a mapping a
folder-free `.json`. The same functions write golden inputs and read the files that a device is pointed at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.errors import DataError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SOUNDS = (".wav", ".flac", ".ogg")
SUFFIXES = (*IMAGES, *SOUNDS, ".npy", ".txt", ".json")

_MAGIC = ((b"\xff\xd8\xff", ".jpg"), (b"\x89PNG", ".png"), (b"BM", ".bmp"), (b"fLaC", ".flac"), (b"OggS", ".ogg"))


def write_raw(value: Any, folder: Path, stem: str) -> str:
    """Writes one raw value into `folder`.

    Args:
        value: Encoded bytes, a path to such bytes, an array or number, a string, or a mapping of arrays and
            plain values.
        folder: Exists already.
        stem: File name without its suffix.

    Returns:
        The file's name.

    Raises:
        DataError: There is no way to store the value without running code on reading.
    """
    if isinstance(value, Path):
        value = value.read_bytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _put(folder, stem + suffix_of(bytes(value)), bytes(value))
    if isinstance(value, str):
        return _put(folder, stem + ".txt", value.encode())
    if isinstance(value, Mapping):
        return _put(folder, stem + ".json", _encoded(value, stem))
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise _unstorable(value, stem)
    np.save(folder / f"{stem}.npy", array, allow_pickle=False)
    return f"{stem}.npy"


def read_raw(path: Path) -> Any:
    """Reads a raw value: bytes for images and sounds, an array for `.npy`, text for `.txt`, a mapping for `.json`.

    Raises:
        DataError: The file is missing, its suffix is unknown or its content is not what the suffix says.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if suffix == ".txt":
            return path.read_text(encoding="utf-8")
        if suffix == ".json":
            return {key: _from_plain(item) for key, item in json.loads(path.read_bytes()).items()}
        return path.read_bytes()
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", hint="replace the file or leave it out") from error


def suffix_of(data: bytes) -> str:
    """Returns the suffix that the first bytes of an encoded image or sound call for, `.bin` when unknown."""
    if data[:4] == b"RIFF":
        return ".webp" if data[8:12] == b"WEBP" else ".wav"
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), ".bin")


def _put(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name


def _encoded(value: Mapping[Any, Any], stem: str) -> bytes:
    plain = {str(key): _to_plain(item) for key, item in value.items()}
    try:
        return (json.dumps(plain, sort_keys=True) + "\n").encode()
    except TypeError as error:
        raise _unstorable(value, stem) from error


def _unstorable(value: Any, stem: str) -> DataError:
    return DataError(
        f"the raw value of {stem} is a {type(value).__name__} that cannot be stored as a golden input",
        hint="let the data set give encoded bytes, arrays, text, or a mapping of these",
    )


def _to_plain(item: Any) -> Any:
    if isinstance(item, (np.ndarray, np.generic)) and not item.dtype.hasobject:
        return {"dtype": str(item.dtype), "data": item.tolist()}
    if isinstance(item, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(bytes(item)).decode()}
    return item


def _from_plain(item: Any) -> Any:
    if isinstance(item, dict) and set(item) == {"dtype", "data"}:
        return np.asarray(item["data"], dtype=item["dtype"])
    if isinstance(item, dict) and set(item) == {"base64"}:
        return base64.b64decode(item["base64"], validate=True)
    return item
