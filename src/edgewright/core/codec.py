"""Plain values (TOML, JSON) to and from the frozen dataclasses, strictly: nothing is guessed or dropped."""

from __future__ import annotations

import dataclasses
import difflib
import json
import threading
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeVar, Union

import msgspec

from edgewright.errors import ConfigError

T = TypeVar("T")
TYPES = threading.RLock()
"""msgspec 0.22 crashes the process when two threads look at a dataclass for the first time."""


def decode(kind: type[T], data: Any, where: str) -> T:
    """Builds a `kind` from plain values.

    Args:
        kind: A frozen dataclass.
        data: What a TOML or JSON parser gave.
        where: Named in errors, e.g. `edgewright.toml [budget]`.

    Raises:
        ConfigError: An unknown key (the near one is suggested), a missing one, or a value of the wrong type.
    """
    _refuse_unknown_keys(kind, data, where)
    try:
        with TYPES:
            return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        hint = "correct or add it; the reference lists every key"
        raise ConfigError(f"{where}: {_reworded(str(error))}", hint=hint) from error


def _reworded(problem: str) -> str:
    """Turns "Expected `int`, got `str` - at `$.a.b`" into "a.b: expected int, got str"."""
    text, _, path = problem.partition(" - at `$")
    text = text.replace("Object missing required field", "missing key").replace("Expected", "expected")
    path = path.rstrip("`").lstrip(".")
    return (f"{path}: {text}" if path else text).replace("`", "")


def decode_stored(kind: type[T], data: bytes) -> T:
    """Reads JSON that Edgewright wrote; keys of a newer version are ignored.

    Raises:
        ValueError: It is not valid for `kind`.
    """
    try:
        with TYPES:
            return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def encode(value: Any) -> Any:
    """Returns plain, JSON-able values; paths become text."""
    return msgspec.to_builtins(value, enc_hook=_path_text)


def _path_text(value: Any) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no plain form")


def encode_json(value: Any) -> bytes:
    """Returns indented JSON with a final newline, the same bytes for equal values."""
    return (json.dumps(encode(value), indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def unknown_key(key: str, known: Sequence[str], where: str) -> ConfigError:
    """Returns the error for a key nobody reads, suggesting the near one."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"known keys: {', '.join(sorted(known)) or 'none'}"
    return ConfigError(f'{where}: unknown key "{key}"', hint=hint)


def _refuse_unknown_keys(kind: Any, data: Any, where: str) -> None:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        for option in typing.get_args(kind):
            if dataclasses.is_dataclass(option):
                _refuse_unknown_keys(option, data, where)
    elif origin in (tuple, list) and isinstance(data, (list, tuple)):
        for index, item in enumerate(data):
            _refuse_unknown_keys(typing.get_args(kind)[0], item, f"{where}[{index}]")
    elif origin is not None and isinstance(data, Mapping) and len(typing.get_args(kind)) == 2:
        for key, item in data.items():
            _refuse_unknown_keys(typing.get_args(kind)[1], item, f"{where}.{key}")
    elif dataclasses.is_dataclass(kind) and isinstance(data, Mapping):
        hints = typing.get_type_hints(kind)
        known = [f.name for f in dataclasses.fields(kind)]
        for key, item in data.items():
            if key not in known:
                raise unknown_key(str(key), known, where)
            _refuse_unknown_keys(hints[key], item, f"{where}.{key}")
