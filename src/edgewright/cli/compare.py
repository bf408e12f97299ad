"""`edgewright compare`: two models on the same samples, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer


def compare(
    reference: Annotated[
        Path, typer.Argument(help="What counts as right: .onnx, .tflite, a model or artifact folder, or .ewb.")
    ],
    candidate: Annotated[Path, typer.Argument(help="What is judged: the same kinds.")],
    project: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="edgewright.toml: its samples, through its pre-processing."),
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the project.")] = "tune",
    inputs: Annotated[Optional[Path], typer.Option(help="An .npz file of input tensors instead.")] = None,  # noqa: UP045
    samples: Annotated[int, typer.Option(min=1, help="How many samples.")] = 16,
    seed: Annotated[int, typer.Option(help="Of random inputs, where neither a project nor inputs are given.")] = 0,
    local: Annotated[bool, typer.Option(help="Also run each layer alone on the reference's values.")] = True,
    html: Annotated[Optional[Path], typer.Option(help="Write a page with pictures.")] = None,  # noqa: UP045
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two models layer by layer through their real runtimes: error so far, error made there, ranges."""
    from edgewright.core.codec import encode
    from edgewright.project import compare as comparing
    from edgewright.report.parity_text import parity_table

    chosen = comparing.Samples(project, split, inputs, samples, seed)
    if project is None and inputs is None:
        typer.echo(f"warning: {comparing.RANDOM}", err=True)
    found = comparing.compare(reference, candidate, chosen, local=local)
    if html is not None:
        from edgewright.report.parity_html import write_parity_page

        write_parity_page(found, reference, html)
    if as_json:
        typer.echo(json.dumps(encode(found), ensure_ascii=False))
        return
    parity_table(found)
    if html is not None:
        typer.echo(f"page: {html}")
