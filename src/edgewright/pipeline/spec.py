"""Tables of operations to operations and back, strictly."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgewright.core.codec import decode
from edgewright.errors import ConfigError

T = TypeVar("T")
Table = Mapping[str, Any]


def operations(catalogue: Mapping[str, type[T]], tables: Sequence[Table], where: str) -> tuple[T, ...]:
    """Builds operations from their tables.

    Args:
        catalogue: `op` name -> dataclass.
        tables: One table per operation, in order.
        where: Named in errors: `preprocess` or `postprocess`.

    Raises:
        ConfigError: An unknown operation or key (the near one is suggested), or a value that does not fit.
    """
    return tuple(_operation(catalogue, table, f"{where}[{index}]") for index, table in enumerate(tables))


def _operation(catalogue: Mapping[str, type[T]], table: Table, where: str) -> T:
    if not isinstance(table, Mapping) or not isinstance(table.get("op"), str):
        hint = f'write a table such as {{ op = "{next(iter(catalogue))}" }}'
        raise ConfigError(f'{where}: expected a table with the key "op", got {table!r}', hint=hint)
    name = table["op"]
    if name not in catalogue:
        near = difflib.get_close_matches(name, catalogue, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"?' if near else f"known operations: {', '.join(sorted(catalogue))}"
        raise ConfigError(f'{where}: unknown operation "{name}"', hint=hint)
    fields = {key: value for key, value in table.items() if key != "op"}
    return decode(catalogue[name], fields, f'{where} "{name}"')


def file_fields(operation: Any) -> dict[str, str]:
    """Returns field name -> path as written, for the files an operation reads."""
    return {name: getattr(operation, name) for name in operation.files}


def resolved(root: Path, path: str) -> Path:
    """Returns where `path` lies: environment variables filled in, relative paths taken from `root`.

    Raises:
        ConfigError: It names a variable that is not set.
    """
    expanded = os.path.expandvars(path)
    if "$" in expanded:
        raise ConfigError(
            f"{path}: an environment variable in this path is not set", hint="export it, or write the path out"
        )
    return root / Path(expanded).expanduser()


def with_files(operation: T, paths: Mapping[str, str]) -> T:
    """Returns the operation with other paths in its file fields; `paths` goes from old to new."""
    changed = {n: paths[p] for n, p in file_fields(operation).items() if p in paths}
    return dataclasses.replace(operation, **changed) if changed else operation  # type: ignore[type-var]
