"""`edgewright ci`: continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Continuous integration: a workflow that optimises, checks and compares."""


@app.command()
def init(
    server: Annotated[str, typer.Argument(help="github or gitlab.")],
    project: Annotated[
        Optional[list[Path]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Project file, repeatable; edgewright.toml by default."),
    ] = None,
    branch: Annotated[str, typer.Option(help="Branch whose pushes run it.")] = "main",
    python: Annotated[str, typer.Option(help="Version of Python.")] = "3.11",
    prepare: Annotated[str, typer.Option(help="Shell command that fetches data and weights.")] = "",
    install: Annotated[str, typer.Option(help="Shell command that installs, instead of the pinned versions.")] = "",
    baseline: Annotated[str, typer.Option(help="Folder of the last release, instead of the server's.")] = "",
    diff: Annotated[str, typer.Option(help="Options of `edgewright diff`, such as its tolerances.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write a workflow: per target one job that optimises, checks the budget and compares with the last release."""
    from edgewright.project import ci

    root = ci.repository_of(Path.cwd())
    settings = ci.Settings(branch, python, install, prepare, baseline, diff)
    written = ci.write_workflow(server, project or [Path("edgewright.toml")], settings, root=root, force=force)
    for file in written.files:
        typer.echo(f"wrote {file.relative_to(root)}")
    typer.echo(f"jobs: {', '.join(job.name for job in written.jobs)}")
    for note in written.notes:
        typer.echo(f"note: {note}")
