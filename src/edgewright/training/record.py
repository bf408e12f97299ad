"""`training.json`: how a training went, beside the model that it made."""

from __future__ import annotations

from pathlib import Path

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.training import TRAINING_FILE, History
from edgewright.errors import Corrupt


def write_history(history: History, folder: Path) -> None:
    """Writes it into the hub folder of the model."""
    (folder / TRAINING_FILE).write_bytes(encode_json(history))


def read_history(folder: Path) -> History | None:
    """Reads it; None where no training pass made the model.

    Raises:
        Corrupt: It cannot be read.
    """
    path = folder / TRAINING_FILE
    try:
        return decode_stored(History, path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="run the pass again") from error
