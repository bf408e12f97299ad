"""`edgewright apply`: passes on a model, without a search."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.core.recipe import StepSpec


def apply(
    model: Annotated[Path, typer.Argument(help="An .onnx, .tflite, .keras or .h5 file, or a model folder.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="A folder, or a path ending in .onnx.")],
    passes: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option("--pass", help="e.g. 'static-int8(scheme=onnxruntime-u8s7, ranges=mse)'; in order."),
    ] = None,
    project: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Project file: calibration data and preprocessing."),
    ] = None,
    compile_for: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--compile", help="Write the artifact of this target too, e.g. onnxruntime."),
    ] = None,
    keep_steps: Annotated[bool, typer.Option("--keep-steps", help="Keep the model after every step.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run passes on a model, in order, and write the result."""
    from edgewright.core.codec import encode
    from edgewright.core.expression import parse_step
    from edgewright.project.apply import Job, apply_passes
    from edgewright.project.config import load_project

    steps = tuple(parse_step(text) for text in passes or ())
    target = parse_step(compile_for) if compile_for else None
    loaded = load_project(project) if project else None
    with _watching(steps, silent=as_json) as progress:
        made = apply_passes(Job(model, steps, out, loaded, target, keep_steps), progress=progress)
    if as_json:
        typer.echo(json.dumps(encode(made)))
        return
    typer.echo(f"wrote {made.model}: {' > '.join(made.steps)}")
    if made.artifact is not None:
        typer.echo(f"artifact: {made.artifact}")


@contextmanager
def _watching(steps: Sequence[StepSpec], *, silent: bool) -> Iterator[Callable[[float, str], None] | None]:
    """Shows how far a long pass is, with the remaining time: an epoch, its loss and its score."""
    if silent or not steps:
        yield None
        return
    from edgewright.report.terminal import SearchProgress

    title = " > ".join(step.name for step in steps)
    with SearchProgress() as watcher:

        def progress(fraction: float, note: str) -> None:
            nonlocal title
            if title:
                watcher.phase(title)
            title = ""
            watcher.progress(fraction, note)

        yield progress
