"""`edgewright batch`: how many samples should share a run, found by measuring here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.bundle.open import Bundle
    from edgewright.device.tune import Tried, Tuned


def batch(
    bundle: Annotated[Path, typer.Argument(help="The bundle, an .ewb file.")],
    source: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Folder of samples like those in practice; the bundle's golden inputs by default."),
    ] = None,
    latency_ms: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Longest time from the first sample of a batch to its results, waiting included, p95."),
    ] = None,
    memory_mb: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Most resident memory of the process that holds the model."),
    ] = None,
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Threads; by default as many as it was measured with."),
    ] = None,
    largest: Annotated[int, typer.Option(min=1, help="Largest batch to try.")] = 256,
    seconds: Annotated[float, typer.Option(min=0.0, help="About how long the interleaved rounds take.")] = 20.0,
    write: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--write", help="Write a bundle that recommends the values found; may be the same file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the best batch under a latency and memory budget by measuring, interleaved, on this machine."""
    from edgewright.bundle.open import open_bundle
    from edgewright.core.codec import encode
    from edgewright.device.tune import Limits, tune

    opened = open_bundle(bundle)
    with _watching(as_json) as progress:
        found = tune(
            opened, _values(opened, source), Limits(latency_ms, memory_mb, largest, seconds), threads, progress
        )
    if write is not None:
        _write(opened, found, write)
    if as_json:
        typer.echo(json.dumps(encode(found)))
        return
    _show(found)
    if write is not None:
        typer.echo(f"written: {write}")


def _values(bundle: Bundle, source: Path | None) -> list[object]:
    from edgewright.bundle.raw import read_raw
    from edgewright.device.sources import still_files

    if source is not None:
        return [read_raw(file) for file in still_files(source)]
    folder = (bundle.folder / bundle.golden.file).parent
    return [read_raw(folder / pair.input) for pair in bundle.golden_pairs()]


def _write(bundle: Bundle, found: Tuned, out: Path) -> None:
    from dataclasses import replace

    from edgewright.bundle.options import with_options

    best = found.best
    options = replace(
        bundle.manifest.options,
        threads=found.threads,
        max_batch=best.size,
        max_delay_ms=found.max_delay_ms,
        batches_ahead=best.ahead,
    )
    with_options(bundle, options, out)


def _show(found: Tuned) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("batch", "p50 ms", "p95 ms", "samples/s", "gain", "95%", "MB", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for row in found.tried:
        table.add_row(*_cells(row), "best" if row == found.best else row.broke)
    console = Console(highlight=False)
    console.print(table)
    threads = f"{found.threads} thread{'' if found.threads == 1 else 's'}"
    typer.echo(f"{threads}, {found.samples} different samples, {found.rounds} interleaved rounds; {found.stopped}")
    if any(row.ahead > 1 for row in found.tried):
        typer.echo('"8 of 32": batches of 8 with similar lengths, out of 32 samples that wait')
    typer.echo(f"best: {found.reason}")
    typer.echo(_sameness(found))
    typer.echo(f"use:  --max-batch {found.best.size} --max-delay-ms {found.max_delay_ms:g}")


def _sameness(found: Tuned) -> str:
    told = f"decisions in batches and alone differ by at most {found.difference:.2g}"
    if found.difference <= found.tolerance:
        return told
    return f"caution: {told}, more than rounding explains: does the model compute over its whole batch?"


def _cells(row: Tried) -> tuple[str, ...]:
    interval = f"{row.gain.low:.2f}-{row.gain.high:.2f}" if row.size > 1 else ""
    memory = f"{row.memory_bytes / 2**20:.0f}" if row.memory_bytes else ""
    size = f"{row.size} of {row.size * row.ahead}" if row.ahead > 1 else str(row.size)
    times = (f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}", f"{row.throughput:.0f}")
    return (size, *times, f"{row.gain.value:.2f}", interval, memory)


@contextmanager
def _watching(silent: bool) -> Iterator[Callable[[float, str], None]]:
    """Shows a bar on the error stream."""
    import sys

    if silent or not sys.stderr.isatty():
        yield lambda fraction, note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda fraction, note: bar.update(task, completed=fraction, description=note)
