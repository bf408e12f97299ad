"""`edgewright why`: where a candidate lost its accuracy, the cause, and the command that repairs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.core.parity import Diagnosis


def why(
    reference: Annotated[str, typer.Argument(help="The original: an .onnx or .tflite file, or a model folder.")],
    candidate: Annotated[str, typer.Argument(help="What lost accuracy: a model, model folder or artifact folder.")],
    project: Annotated[
        str, typer.Option(help="Project file: samples, preprocessing, class names.")
    ] = "edgewright.toml",
    deployed: Annotated[str, typer.Option(help="Project file that the candidate runs with, if another.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Samples to look at.")] = 64,
    html: Annotated[Optional[Path], typer.Option(help="Write a page.")] = None,  # noqa: UP045 - read at run time
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Name the stage, the first guilty layer and the cause of a loss of accuracy, and the command that repairs it."""
    from edgewright.core.codec import encode
    from edgewright.project.why import why as explain

    found = explain(reference, candidate, project, deployed, samples=samples)
    if html is not None:
        from edgewright.report.diagnosis_html import diagnosis_html

        html.write_text(diagnosis_html(found, reference, candidate), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(encode(found), ensure_ascii=False))
        return
    show(found)
    if html is not None:
        typer.echo(f"page: {html}")


def show(found: Diagnosis) -> None:
    """Prints a diagnosis."""
    typer.echo("output left after each stage alone:")
    for stage, left in found.stages.items():
        typer.echo(f"  {stage:15} {_decibels(left)}")
    if not found.suspects:
        typer.echo(f"lost in: {found.stage}" if found.stage else "nothing was lost")
        return
    typer.echo(f"lost in: {found.stage}")
    for rank, suspect in enumerate(found.suspects[:5], start=1):
        where = f" at {suspect.node}" if suspect.node else ""
        typer.echo(f"\n{rank}. {suspect.cause}{where} ({suspect.stage}, score {suspect.score:.2f})")
        typer.echo(f"   {suspect.evidence}")
        typer.echo(f"   fix: {suspect.fix}")


def _decibels(left: float) -> str:
    if left >= 199:
        return "all of it"
    return "nothing" if left <= -59 else f"{left:.1f} dB"
