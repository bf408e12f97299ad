"""A project file with some keys changed, written beside the one it came from."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgewright.core.codec import decode, unknown_key
from edgewright.errors import UsageError
from edgewright.project.checks import check_file
from edgewright.project.config import FILE_NAME, ProjectFile
from edgewright.store.files import write_atomic

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def amend_project(project: Path, out: Path, changes: Sequence[str], copies: Sequence[str]) -> Path:
    """Writes `project` with keys changed.

    Args:
        project: The TOML file, or its folder.
        out: The new file; in the same folder, since relative paths start there.
        changes: `key=value`, the key dotted, the value JSON.
        copies: `key=other key`: takes over what another key holds.

    Raises:
        UsageError: A change has another form, or `out` lies elsewhere.
        ConfigError: The result is no project file.
    """
    project = project / FILE_NAME if project.is_dir() else project
    if out.resolve().parent != project.resolve().parent:
        hint = f"write -o {project.with_name(out.name)}"
        raise UsageError(f"{out}: paths in {project} start in its folder, so the new file belongs there", hint=hint)
    table = tomllib.loads(project.read_text(encoding="utf-8"))
    for text in changes:
        key, value = _parted(text, "--set")
        _put(table, key, _json(text, value))
    for text in copies:
        key, other = _parted(text, "--copy")
        _put(table, key, _get(table, other))
    check_file(decode(ProjectFile, table, out.name), out.name)
    write_atomic(out, to_toml(table).encode())
    return out


def _parted(text: str, option: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not mark or not key.strip():
        raise UsageError(f'{option} "{text}" is not key=value', hint=f'e.g. {option} \'labels=["cat", "dog"]\'')
    return key.strip(), value.strip()


def _json(text: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        hint = "write strings in double quotes, lists in brackets, tables in braces"
        raise UsageError(f'--set "{text}": the value is not JSON: {error}', hint=hint) from error


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UsageError(f'"{key}": {name} is no table', hint="name a key of a table")
    table[last] = value


def _get(table: Mapping[str, Any], key: str) -> Any:
    found: Any = table
    for name in key.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise unknown_key(name, list(found) if isinstance(found, Mapping) else [], f"--copy {key}")
        found = found[name]
    return found


def to_toml(table: Mapping[str, Any]) -> str:
    """Returns plain values as TOML; comments of the original are not kept."""
    return "\n".join(_lines(table, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    nested = {k: v for k, v in table.items() if isinstance(v, Mapping) or _is_tables(v)}
    for key, value in table.items():
        if key not in nested:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in nested.items():
        inner = (*path, key)
        name = ".".join(map(_key, inner))
        for each in [value] if isinstance(value, Mapping) else value:
            yield f"\n[{name}]" if isinstance(value, Mapping) else f"\n[[{name}]]"
            yield from _lines(each, inner)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    """JSON's strings are TOML's but for one control character, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return str(value)
