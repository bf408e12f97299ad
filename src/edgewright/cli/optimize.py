"""`edgewright optimize`: the main job."""

from __future__ import annotations

from pathlib import Path

import typer


def optimize(
    project: Path = typer.Argument(Path("edgewright.toml"), help="The project file, or the folder that holds it."),
    as_json: bool = typer.Option(False, "--json", help="Print the study as JSON instead of tables."),
    quiet: bool = typer.Option(False, "--quiet", help="Show no progress."),
) -> None:
    """Find, prove and pack the best artifact for every target of the project.

    Exits with 0 when every target has an artifact inside the budget, 1 when one has not (the nearest is packed).
    """
    from edgewright.errors import BUDGET_MET, BUDGET_NOT_MET
    from edgewright.project import config, optimize

    loaded = config.load_project(project)
    outcome = optimize.optimize(loaded, progress=not (quiet or as_json))
    if as_json:
        typer.echo(outcome.study_json.read_text(encoding="utf-8"), nl=False)
    else:
        optimize.show(outcome)
    raise typer.Exit(BUDGET_MET if outcome.met else BUDGET_NOT_MET)
