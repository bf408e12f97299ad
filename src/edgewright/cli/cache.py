"""`edgewright cache`: where results are kept, how large it is, and making it smaller."""

from __future__ import annotations

import json
import re

import typer

from edgewright.errors import UsageError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?", re.IGNORECASE)
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@app.command()
def gc(
    max_size: str = typer.Option("10GB", help="Keep at most this much, the most recently used first."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Remove results that were not used for longest, until the cache is small enough."""
    from edgewright.core.codec import encode
    from edgewright.store.cache import Cache
    from edgewright.store.gc import collect

    cache = Cache.default()
    found = collect(cache, parse_size(max_size))
    if as_json:
        typer.echo(json.dumps({"root": str(cache.root), **encode(found)}))
        return
    typer.echo(f"{cache.root}: {found.kept_actions} results kept ({found.kept_bytes / 2**20:.1f} MiB)")
    typer.echo(f"removed {found.removed_actions} results, {found.freed_bytes / 2**20:.1f} MiB freed")


@app.command()
def path() -> None:
    """Print the folder of the cache."""
    from edgewright.store.cache import Cache

    typer.echo(str(Cache.default().root))


def parse_size(text: str) -> int:
    """Reads `500MB`, `1.5G`, `0`: units are powers of 1024.

    Raises:
        UsageError: It is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"--max-size {text!r} is not a size", hint="write it like 500MB or 10GB")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])
