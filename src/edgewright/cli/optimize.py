"""`edgewright optimize`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def optimize(
    project: Path = typer.Argument(Path("edgewright.toml"), help="The project file, or the folder that holds it."),
    target: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Only this target of the project, repeatable; all by default."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for the results instead of the project's own."),
    ] = None,
    data_by_content: bool = typer.Option(
        False,
        "--data-by-content",
        help="Tell data files apart by what they hold: for a fresh checkout on a build server.",
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the study as JSON instead of tables."),
    quiet: bool = typer.Option(False, "--quiet", help="Show no progress."),
) -> None:
    """Find, prove and pack the best artifact for every target of the project.

    Exits with 0 when every target has an artifact inside the budget, 1 when one has not (the nearest is packed).
    """
    from edgewright.errors import BUDGET_MET, BUDGET_NOT_MET
    from edgewright.project import config, optimize, select

    loaded = select.narrowed(config.load_project(project), tuple(target or ()), output)
    outcome = optimize.optimize(loaded, progress=not (quiet or as_json), by_content=data_by_content)
    if as_json:
        typer.echo(outcome.study_json.read_text(encoding="utf-8"), nl=False)
    else:
        optimize.show(outcome)
    raise typer.Exit(BUDGET_MET if outcome.met else BUDGET_NOT_MET)
