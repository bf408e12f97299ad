"""`edgewright run`: a bundle on a folder, a video or a camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.device.loop import Meter
    from edgewright.device.session import RunSummary


def run(
    bundle: Annotated[Path, typer.Argument(help="The bundle, an .ewb file.")],
    source: Annotated[str, typer.Option(help="Folder, file, video, or camera number.")],
    output: Annotated[
        Optional[str],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="out.jsonl, out.mp4, or - for JSON lines on the screen."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(help="Stop after this many frames.")] = None,  # noqa: UP045
    threads: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Threads; by default as many as it was measured with."),
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play a video at its own speed, skipping frames.")
    ] = False,
    min_score: Annotated[float, typer.Option(help="Leave out detections with a lower score.")] = 0.3,
    max_batch: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Samples that share a run; by default what the bundle recommends, else 1."),
    ] = None,
    max_delay_ms: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="How long a sample waits for others to share its run, in milliseconds."),
    ] = None,
    show_fps: Annotated[bool, typer.Option("--show-fps", help="Show FPS and p95 even when not on a terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Runs a bundle on images, sounds, a video or a camera; Ctrl-C ends it with all files finished."""
    from edgewright.device.session import RunConfig, run_bundle
    from edgewright.errors import DataError

    config = RunConfig(bundle, source, output, limit, threads, realtime, min_score, None, max_batch, max_delay_ms)
    with _live(show_fps) as show:
        summary = run_bundle(config, show=show)
    if as_json:
        import json

        from edgewright.core.codec import encode

        typer.echo(json.dumps({"summary": encode(summary)}))
    else:
        typer.echo(_told(summary), err=output == "-")
    if summary.failed:
        raise typer.Exit(DataError.exit_code)


@contextmanager
def _live(forced: bool) -> Iterator[Callable[[Meter], None] | None]:
    """Shows FPS and p95 on the error stream, at most four times a second."""
    import sys

    if not (forced or sys.stderr.isatty()):
        yield None
        return
    import time

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(stderr=True), auto_refresh=False, transient=not forced) as live:
        shown = [0.0]

        def show(meter: Meter) -> None:
            now = time.monotonic()
            if now - shown[0] >= 0.25:
                shown[0] = now
                live.update(Text(_status(meter)), refresh=True)

        yield show


def _status(meter: Meter) -> str:
    skipped = f", {meter.skipped} skipped" if meter.skipped else ""
    return f"{meter.fps:.1f} FPS, p95 {meter.percentile(95):.2f} ms, {meter.frames} frames{skipped}"


def _told(summary: RunSummary) -> str:
    skipped = f", {summary.skipped} skipped" if summary.skipped else ""
    lines = [
        f"{summary.frames} frames{skipped}, {summary.fps:.1f} FPS, "
        f"p50 {summary.p50_ms:.2f} ms, p95 {summary.p95_ms:.2f} ms, p99 {summary.p99_ms:.2f} ms"
        + (f", up to {summary.max_batch} in a run" if summary.max_batch > 1 else "")
        + (" (stopped)" if summary.stopped else "")
    ]
    if summary.failed:
        lines.append(f"  {summary.failed} could not be decided about: see the errors in the output")
    for seen in summary.classes:
        if seen.most:
            lines.append(f"  {seen.label}: {seen.distinct} told apart, at most {seen.most} in one frame")
        else:
            lines.append(f"  {seen.label}: {seen.frames} frames")
    if summary.output not in (None, "-"):
        lines.append(f"written: {summary.output}")
    return "\n".join(lines)
