"""`edgewright diff`: is a release worse than the last one?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from collections.abc import Callable


def diff(
    old: Annotated[
        Path, typer.Argument(help="The last release: output folder, study.json, report.json, or an .ewb bundle.")
    ],
    new: Annotated[Path, typer.Argument(help="The one to judge: the same kinds.")] = Path("edgewright-out"),
    target: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Only this target, repeatable."),
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="Largest loss of the judged metric, in its own unit.")] = 0.005,
    max_slowdown: Annotated[float, typer.Option(min=0, help="Largest relative growth of the time per sample.")] = 0.1,
    max_growth: Annotated[float, typer.Option(min=0, help="Largest relative growth of size and peak memory.")] = 0.1,
    time: Annotated[bool, typer.Option("--time", help="Time both bundles in turn on this machine.")] = False,
    seconds: Annotated[float, typer.Option(min=0, help="Longest time spent on timing one target.")] = 20.0,
    html: Annotated[Optional[Path], typer.Option(help="Write a page.")] = None,  # noqa: UP045
    junit: Annotated[Optional[Path], typer.Option(help="Write JUnit XML.")] = None,  # noqa: UP045
    markdown: Annotated[Optional[Path], typer.Option(help="Write a summary in Markdown.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two releases: quality paired on the same samples, speed, size, memory, placement, decisions.

    Exits with 1 when the new one is worse by more than is allowed, and by more than chance explains.
    """
    from edgewright.core.codec import encode_json
    from edgewright.errors import BUDGET_MET, BUDGET_NOT_MET
    from edgewright.project import diff as comparing
    from edgewright.search.release import Tolerance

    timing = comparing.Timing(seconds, _progress(as_json)) if time else None
    tolerance = Tolerance(max_drop, max_slowdown, max_growth)
    found = comparing.diff(old, new, tolerance, targets=tuple(target or ()), timing=timing)
    comparing.write_views(found, html=html, junit=junit, markdown=markdown)
    if as_json:
        verdict = {"worse": found.worse, "reasons": list(found.reasons())}
        typer.echo(encode_json({"diff": found, **verdict}), nl=False)
    else:
        from edgewright.report.release_text import show_diff

        show_diff(found)
    raise typer.Exit(BUDGET_NOT_MET if found.worse else BUDGET_MET)


def _progress(quiet: bool) -> Callable[[float, str], None]:
    """Says that timing began, once: it takes a while, and nothing is printed meanwhile."""
    told: list[str] = []

    def progress(fraction: float, note: str) -> None:
        if not quiet and (note.startswith("waiting") or not told) and note not in told:
            told.append(note)
            typer.echo(f"timing both in turn: {note}", err=True)

    return progress
