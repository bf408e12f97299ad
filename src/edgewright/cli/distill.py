"""`edgewright distill`: a small student learns from the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    pass

_LIST = "Show the students there are, with parameters and multiply-accumulates, and stop."


def distill(
    student: Annotated[
        str,
        typer.Option(help="e.g. mobilenetv3-0.5 (--list), every-second-layer, module:factory, or a model file."),
    ] = "",
    teacher: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="A model file; the project's own model by default."),
    ] = None,
    project: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="edgewright.toml: samples, preprocessing, metrics."),
    ] = None,
    data: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Instead of a project: a folder of images, or an .npz of arrays; no labels."),
    ] = None,
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the student.")] = Path("student"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the samples.")] = 10,
    batch: Annotated[int, typer.Option(min=1, help="Samples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="The highest that the schedule reaches.")] = 2e-3,
    temperature: Annotated[float, typer.Option(help="Softens class scores.")] = 4.0,
    labels: Annotated[float, typer.Option(help="Weight of the labels' own loss; 0 uses none.")] = 0.0,
    split: Annotated[str, typer.Option(help="Samples to learn from, e.g. train+unlabelled.")] = "",
    fit: Annotated[str, typer.Option(help="More about training, e.g. '{optimiser=sgd, augment=[{op=flip}]}'.")] = "",
    keep: Annotated[str, typer.Option(help="For --student layers: which stay, e.g. 0,2.")] = "",
    scale: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="For images of --data: what pixels of 0..255 are multiplied by."),
    ] = None,
    mean: Annotated[str, typer.Option(help="Subtracted after scaling, e.g. 0.485,0.456,0.406.")] = "",
    std: Annotated[str, typer.Option(help="Divided by after that.")] = "",
    int8: Annotated[bool, typer.Option("--int8", help="Quantise the student, too.")] = False,
    target: Annotated[str, typer.Option(help="Runs both for the comparison.")] = "onnxruntime",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    show: Annotated[bool, typer.Option("--list", help=_LIST)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a small student on what the model gives, and compare the two; a run that was stopped goes on."""
    from edgewright.core.codec import encode
    from edgewright.core.expression import parse_step
    from edgewright.errors import UsageError
    from edgewright.project.config import load_project
    from edgewright.project.distill import Job, distill

    if show:
        _list(as_json)
        return
    if not student:
        raise UsageError(
            "no student was named", hint="--student mobilenetv3-0.5; `edgewright distill --list` shows all"
        )
    fields: dict[str, Any] = {"network": student}
    if keep:
        fields["keep"] = _numbers(keep, int)
    training: dict[str, Any] = {
        "epochs": epochs,
        "batch": batch,
        "learning_rate": learning_rate,
        "temperature": temperature,
        "labels": labels,
        "split": split,
        **({"fit": parse_step(f"distill(fit={fit})").config["fit"]} if fit else {}),
    }
    job = Job(
        fields,
        out,
        training,
        teacher,
        load_project(project) if project else None,
        data,
        _pixels(scale, mean, std),
        int8,
        parse_step(target),
        threads,
    )
    with _watching(as_json) as progress:
        made = distill(job, progress=progress)
    if as_json:
        typer.echo(json.dumps(encode(made)))
        return
    from edgewright.report.distilled import sides_table

    sides_table(made.sides)
    typer.echo(f"student: {made.model}" + (f", INT8: {made.quantised}" if made.quantised else ""))


def _pixels(scale: float | None, mean: str, std: str) -> dict[str, Any] | None:
    if scale is None and not mean and not std:
        return None
    found: dict[str, Any] = {"scale": 1.0 if scale is None else scale}
    for name, text in (("mean", mean), ("std", std)):
        if text:
            numbers = _numbers(text, float)
            found[name] = numbers[0] if len(numbers) == 1 else numbers
    return found


def _numbers(text: str, kind: Callable[[str], Any]) -> list[Any]:
    from edgewright.errors import UsageError

    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f'"{text}" is no list of numbers', hint="write them with commas between: 0,2") from error


def _list(as_json: bool) -> None:
    from edgewright.core.codec import encode
    from edgewright.report.distilled import catalogue_table
    from edgewright.training.students.figures import figures

    found = figures()
    if as_json:
        typer.echo(json.dumps({"students": encode(found)}))
        return
    catalogue_table(found)


@contextmanager
def _watching(silent: bool) -> Iterator[Callable[[float, str], None]]:
    """Shows a bar with the loss and the remaining time on a terminal; a line every 15 seconds elsewhere."""
    import sys
    import time

    if silent:
        yield lambda fraction, note: None
        return
    if not sys.stderr.isatty():
        spoke = time.monotonic()

        def tell(fraction: float, note: str) -> None:
            nonlocal spoke
            if time.monotonic() - spoke >= 15:
                spoke = time.monotonic()
                typer.echo(f"{fraction:4.0%} {note}", err=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(fraction: float, note: str) -> None:
            if fraction < (bar.tasks[0].completed or 0.0):
                bar.reset(task)
            bar.update(task, completed=fraction, description=note)

        yield show
