"""Options of TFLite operators for test models."""

from __future__ import annotations

from typing import Any


def options(kind: str, **fields: Any) -> Any:
    """Returns the options of an operator, as the schema that comes with LiteRT writes them.

    Args:
        kind: Name of the table without `Options`, e.g. `Conv2D`.
        fields: Its fields.

    Raises:
        AttributeError: The schema has no such table or field.
    """
    from ai_edge_litert import schema_py_generated

    made = getattr(schema_py_generated, f"{kind}OptionsT")()
    for name, value in fields.items():
        if not hasattr(made, name):
            raise AttributeError(f"{kind}Options has no field {name}")
        setattr(made, name, value)
    return made
