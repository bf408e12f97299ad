"""`edgewright targets`: every target, whether its toolchain is installed, and how to get it."""

from __future__ import annotations

import json
from typing import Any

import typer


def targets(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the targets with installed versions or the line that installs them."""
    from edgewright.engine import registry, toolchain

    rows: list[dict[str, Any]] = []
    for name in registry.names("targets"):
        extra = getattr(registry.load("targets", name), "extra", "")
        absent = toolchain.missing(extra) if extra else ()
        found = toolchain.versions(toolchain.distributions_of(extra)) if extra else {}
        install = toolchain.install_line(extra) if absent else ""
        rows.append({"target": name, "installed": not absent, "versions": found, "install": install})
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for row in rows:
        versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items()) or "built in"
        typer.echo(f"{row['target']:14} {versions if row['installed'] else 'not installed: ' + row['install']}")
