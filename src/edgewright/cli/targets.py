"""`edgewright targets`: every target, whether its toolchain is installed, and how to get it."""

from __future__ import annotations

import json

import typer


def targets(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the targets with installed versions or the line that installs them; `edgewright doctor` tells more."""
    from edgewright.cli.doctor import target_line
    from edgewright.engine import doctor
    from edgewright.runtimes._machine import local_device

    rows = doctor.targets(local_device())
    if as_json:
        keys = ("installed", "versions", "install", "elsewhere")
        typer.echo(json.dumps([{"target": row.name, **{key: getattr(row, key) for key in keys}} for row in rows]))
        return
    for row in rows:
        typer.echo(target_line(row))
