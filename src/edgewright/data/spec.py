"""What the data are: the content of `data.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgewright.core.data import SPLITS
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.pipeline.spec import resolved

Table = Mapping[str, Any]
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where samples come from and what happens to them before and after the model.

    Attributes:
        root: Folder that relative paths and modules are taken from.
        splits: Split name -> table of its reader, with the defaults filled in.
        preprocess: Tables of the pre-processing operations.
        postprocess: Tables of the post-processing operations.
        labels: Class names in index order; empty where classes have no names.
        inputs: The model's inputs: they give single arrays their name, and samples are checked against them.
        schema: Version of this layout.
    """

    root: str
    splits: Mapping[str, Table]
    preprocess: tuple[Table, ...] = ()
    postprocess: tuple[Table, ...] = ()
    labels: tuple[str, ...] = ()
    inputs: tuple[TensorSpec, ...] = ()
    schema: int = field(default=SCHEMA)


def data_spec(
    root: Path,
    data: Table,
    preprocess: Sequence[Table] = (),
    postprocess: Sequence[Table] = (),
    labels: str | Sequence[str] = (),
    inputs: Sequence[TensorSpec] = (),
) -> DataSpec:
    """Builds the spec from the tables of a project.

    Args:
        root: Folder of the project file.
        data: The `[data]` table. Its own keys are defaults for every split; the tables `calibration`, `tune`, `test`,
            `train` and `unlabelled` add to them or override them. A split that names another `reader` takes none.
        preprocess: Tables of the pre-processing operations.
        postprocess: Tables of the post-processing operations.
        labels: Class names, or the path of a file that holds them.
        inputs: The model's inputs, with their batch axis.

    Raises:
        ConfigError: A split is no table, or the label file cannot be read.
    """
    defaults = {key: value for key, value in data.items() if key not in SPLITS}
    splits = {name: _with_defaults(name, data[name], defaults) for name in SPLITS if name in data}
    return DataSpec(
        root=str(root.resolve()),
        splits=splits,
        preprocess=tuple(preprocess),
        postprocess=tuple(postprocess),
        labels=read_labels(labels, root),
        inputs=tuple(inputs),
    )


def _with_defaults(split: str, table: Any, defaults: Table) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise ConfigError(f"[data.{split}]: expected a table, got {table!r}", hint=f"write [data.{split}] and its keys")
    if "reader" in table and table["reader"] != defaults.get("reader"):
        return dict(table)
    merged = {**defaults, **table}
    if isinstance(defaults.get("args"), Mapping) and isinstance(table.get("args"), Mapping):
        merged["args"] = {**defaults["args"], **table["args"]}
    return merged


def read_labels(labels: str | Sequence[str], root: Path) -> tuple[str, ...]:
    """Returns class names, given in place or as the path of a file: a JSON list, or text with one name per line.

    Raises:
        ConfigError: The file cannot be read, or a name occurs twice.
    """
    names = _label_file(resolved(root, labels)) if isinstance(labels, str) else tuple(labels)
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise ConfigError(f"labels: {', '.join(double)} given more than once", hint="give every class its own name")
    return names


def _label_file(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if path.suffix == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        hint = "give a JSON list of names, or a text file with one name per line"
        raise ConfigError(f"labels: cannot read {path}: {error}", hint=hint) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"labels: {path} is no list of names", hint='write ["first", "second"]')
    return tuple(name for name in names if name)
