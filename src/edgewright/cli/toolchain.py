"""`edgewright toolchain`: environments of their own for what cannot be installed beside the rest."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from edgewright.engine.environments import Status

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_NAME = typer.Argument(help="Its name, see `edgewright toolchain list`.")
_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("list")
def show(as_json: bool = _JSON) -> None:
    """List the toolchains, whether each is installed, and the line that installs it."""
    from edgewright.engine import environments

    found = [environments.status(name) for name in environments.names()]
    if as_json:
        typer.echo(json.dumps([_row(status) for status in found]))
        return
    for status in found:
        typer.echo(f"{status.name:14} {_sentence(status)}")


@app.command()
def install(
    name: str = _NAME,
    python: str = typer.Option("", help="Interpreter to make it with; a fitting one is found by itself."),
    again: bool = typer.Option(False, "--again", help="Make it anew even where it is ready."),
    as_json: bool = _JSON,
    quiet: bool = typer.Option(False, "--quiet", help="Show no progress."),
) -> None:
    """Make the environment of a toolchain, exactly as locked; killed at any moment, the same command repairs it."""
    from edgewright.engine import environments
    from edgewright.engine.environments import install as installation

    with _watching(quiet or as_json) as progress:
        installation.install(name, progress, python=python, again=again)
    status = environments.status(name)
    typer.echo(json.dumps(_row(status)) if as_json else f"{name}: {_sentence(status)}")


@app.command()
def remove(name: str = _NAME, as_json: bool = _JSON) -> None:
    """Remove the environment of a toolchain; results made with it stay in the cache."""
    from edgewright.engine.environments import install as installation

    removed = installation.remove(name)
    if as_json:
        typer.echo(json.dumps({"toolchain": name, "removed": removed}))
        return
    typer.echo(f"{name}: {'removed' if removed else 'was not installed'}")


def _row(status: Status) -> dict[str, Any]:
    environment = status.environment
    return {
        "toolchain": status.name,
        "for": status.purpose,
        "state": status.state,
        "install": status.install,
        "folder": str(environment.folder) if environment else None,
        "python": environment.python if environment else None,
        "megabytes": environment.megabytes if environment else None,
        "versions": environment.versions() if environment else {},
    }


def _sentence(status: Status) -> str:
    if status.environment is None:
        return f"not installed: {status.install}   (for {status.purpose})"
    where = f"{status.environment.megabytes} MB, Python {status.environment.python}, {status.environment.folder}"
    return f"ready   ({where})" if not status.install else f"{status.state}, make it anew: {status.install}   ({where})"


@contextlib.contextmanager
def _watching(silent: bool) -> Iterator[Callable[[float, str], None]]:
    """Shows a bar with the time left on standard error."""
    if silent:
        yield lambda fraction, note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda fraction, note: bar.update(task, completed=fraction, description=note)
