"""`edgewright amend`: a project file with some keys changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer


def amend(
    project: Annotated[Path, typer.Argument(help="The project file, or the folder that holds it.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The new file, in the same folder.")],
    changes: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option("--set", help="key=value, the value as JSON; repeatable."),
    ] = None,
    copies: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--copy", help="key=other: take over what another key holds; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a project file with some keys changed; comments are not kept."""
    from edgewright.project.amend import amend_project

    made = amend_project(project, out, changes or (), copies or ())
    typer.echo(json.dumps({"project": str(made)}) if as_json else f"wrote {made}")
