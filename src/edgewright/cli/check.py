"""`edgewright check`: refused and risky layers, per target, before training or export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.project.config import Project
    from edgewright.report.inspection import Subject


def check(
    model: Annotated[
        str,
        typer.Argument(
            help="A file (.onnx, .tflite, .keras, .h5), a folder, or module:factory; weights may be random."
        ),
    ] = "",
    target: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option("--target", help="Only this target; repeatable. All there are, or those of the project."),
    ] = None,
    project: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="An edgewright.toml: its model, its inputs and its targets."),
    ] = None,
    inputs: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--input", help='PyTorch only, one per argument: "image:float32[batch,3,224,224]".'),
    ] = None,
    code: Annotated[Path, typer.Option(help="PyTorch only: folder that holds the module.")] = Path(),
    verbose: Annotated[bool, typer.Option("--all", help="Name every layer, not the first few.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name the layers that each target refuses, or takes at a cost. Exit code 1 where a target refuses the model."""
    from edgewright.core.codec import encode
    from edgewright.project.check import chosen_targets
    from edgewright.project.config import load_project
    from edgewright.report.checking import check_model
    from edgewright.runtimes._machine import local_device

    opened = load_project(project) if project is not None else None
    subject = _subject(model, opened, inputs or [], code)
    found = check_model(subject, chosen_targets(target or [], opened), local_device())
    if as_json:
        typer.echo(json.dumps(encode(found), ensure_ascii=False))
    else:
        from edgewright.report.check_text import check_table

        check_table(found, every=verbose)
    raise typer.Exit(1 if found.refused else 0)


def _subject(model: str, project: Project | None, inputs: list[str], code: Path) -> Subject:
    from edgewright.cli.model import parse_input
    from edgewright.errors import UsageError
    from edgewright.project.check import subject_of
    from edgewright.report.inspection import Subject

    if model:
        return Subject(model, tuple(parse_input(text) for text in inputs), None, code)
    if project is None:
        raise UsageError("no model to check", hint="give a model, or --project edgewright.toml")
    return subject_of(project)
