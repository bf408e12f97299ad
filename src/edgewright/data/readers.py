"""All readers, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from edgewright.core.codec import decode
from edgewright.data.folders import Images, Wav
from edgewright.data.function import Function
from edgewright.data.npz import Npz
from edgewright.data.series import CsvWindows
from edgewright.data.source import Reader
from edgewright.data.texts import Text
from edgewright.errors import ConfigError

_ALL: tuple[type[Reader], ...] = (Npz, Images, Wav, CsvWindows, Text, Function)
READERS: Mapping[str, type[Reader]] = {kind.reader: kind for kind in _ALL}
"""`reader` name -> reader."""


def reader_of(table: Mapping[str, Any], where: str) -> Reader:
    """Builds the reader of a split from its table.

    Raises:
        ConfigError: No or an unknown reader, an unknown key, or a value that does not fit.
    """
    name = table.get("reader")
    if name is None:
        raise ConfigError(f'{where}: the key "reader" is missing', hint=f"readers: {', '.join(READERS)}")
    if name not in READERS:
        near = difflib.get_close_matches(str(name), READERS, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"readers: {', '.join(READERS)}"
        raise ConfigError(f"{where}: unknown reader {name!r}", hint=hint)
    fields = {key: value for key, value in table.items() if key != "reader"}
    return decode(READERS[name], fields, f'{where} reader "{name}"')
