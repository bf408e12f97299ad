"""`edgewright tune`: hyper-parameters of a recipe, found by trying."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgewright.search.observer import Observer


def tune(
    project: Path = typer.Argument(Path("edgewright.toml"), help="The project file, or the folder that holds it."),
    trials: Annotated[int, typer.Option(min=0, help="Finished trials the study shall hold; 0 only reports.")] = 20,
    storage: Annotated[
        str,
        typer.Option(
            help="Database of the study: sqlite:///study.db, or postgresql://user@host/database. Or name it in "
            "EDGEWRIGHT_STORAGE; a password goes into EDGEWRIGHT_STORAGE_PASSWORD, PGPASSWORD or ~/.pgpass."
        ),
    ] = "",
    workers: Annotated[int, typer.Option(min=1, help="Worker processes on this machine.")] = 1,
    recipe: Annotated[str, typer.Option(help="Title of the recipe to tune, or training; if several have ranges.")] = "",
    target: Annotated[str, typer.Option(help="Label of the target; the first by default.")] = "",
    objective: Annotated[
        str, typer.Option(help="quality, speed or both; by default quality where the budget limits costs, else both.")
    ] = "",
    study: Annotated[str, typer.Option(help="Name of the study; from the question by default.")] = "",
    heartbeat: Annotated[int, typer.Option(min=1, hidden=True, help="Seconds between signs of life.")] = 30,
    worker: Annotated[int, typer.Option(min=0, hidden=True, help="Index of this process on its machine.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Find values for the ranges in a recipe, or in [training], by trying them.

    The same command on another machine with the same --storage is another worker of the same study. Exits with 0 when
    the best trial is inside the budget, 1 when it is not.
    """
    from edgewright.errors import BUDGET_MET, BUDGET_NOT_MET
    from edgewright.project import config
    from edgewright.project.tune import Options
    from edgewright.project.tune import tune as run

    options = Options(trials, storage, workers, recipe, target, objective, study, heartbeat, worker, project)
    with _watching(quiet or as_json) as observer:
        found = run(config.load_project(project), options, observer=observer)
    if worker:
        raise typer.Exit
    if as_json:
        typer.echo((found.folder / "tuning.json").read_text(encoding="utf-8"), nl=False)
    else:
        from edgewright.report.tuning import show_tuning

        show_tuning(found.tuning)
        typer.echo(f"recipe: {found.folder / 'best.toml'}")
        typer.echo(f"report: {found.folder / 'tuning.html'}")
    raise typer.Exit(BUDGET_MET if found.met else BUDGET_NOT_MET)


@contextlib.contextmanager
def _watching(silent: bool) -> Iterator[Observer]:
    from edgewright.search.observer import Silent

    if silent:
        yield Silent()
        return
    from edgewright.report.terminal import SearchProgress

    with SearchProgress() as watcher:
        yield watcher
