"""`edgewright inspect` and `edgewright merge`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from edgewright.core.tensors import TensorSpec


def inspect(
    model: Annotated[str, typer.Argument(help="A file (.onnx, .tflite, .keras, .h5), a folder, or module:factory.")],
    html: Annotated[Optional[Path], typer.Option(help="Write a page with the graph as a picture.")] = None,  # noqa: UP045
    runs: Annotated[int, typer.Option(min=0, help="Profiled runs; 0 measures nothing.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the profiled runs.")] = 1,
    inputs: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option("--input", help='PyTorch only, one per argument: "image:float32[batch,3,224,224]".'),
    ] = None,
    checkpoint: Annotated[Optional[Path], typer.Option(help="PyTorch only: weights to load.")] = None,  # noqa: UP045
    code: Annotated[Path, typer.Option(help="PyTorch only: folder that holds the module.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a model takes, gives, costs, where its time goes, and which targets take it."""
    from edgewright.core.codec import encode
    from edgewright.report.inspection import Subject, inspect_model
    from edgewright.report.inspection_text import inspection_table

    specs = tuple(parse_input(text) for text in inputs or ())
    found, bound = inspect_model(Subject(model, specs, checkpoint, code), runs=runs, threads=threads)
    if html is not None:
        from edgewright.report.inspect_html import inspection_html

        _write(html, inspection_html(found, bound))
    if as_json:
        typer.echo(json.dumps(encode(found), ensure_ascii=False))
        return
    inspection_table(found)
    if html is not None:
        typer.echo(f"page: {html}")


def merge(
    first: Annotated[Path, typer.Argument(help="The ONNX file that runs first.")],
    second: Annotated[Path, typer.Argument(help="The ONNX file that runs second, or beside it.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="A path ending in .onnx, or a folder.")],
    connect: Annotated[
        Optional[list[str]],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="output:input (or output=input), repeatable; none puts the two side by side."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Join two ONNX models into one graph, and check it against running the two in turn."""
    from edgewright.core.codec import encode
    from edgewright.engine import toolchain
    from edgewright.sources.joined import join_files, parse_connections

    toolchain.need("joining two models", "build", "onnxruntime")
    report = join_files(first, second, parse_connections(connect or []), out)
    if as_json:
        typer.echo(json.dumps(encode(report), ensure_ascii=False))
        return
    typer.echo(f"wrote {report.path} (opset {report.opset})")
    for word, specs in (("input", report.inputs), ("output", report.outputs)):
        for spec in specs:
            typer.echo(f"  {word:6} {spec}")
    for old, new in report.renamed.items():
        typer.echo(f'  "{old}" of the second model is now "{new}"')
    ratio = "identical" if report.snr_db is None else f"{report.snr_db:.1f} dB"
    samples = report.compared_samples
    typer.echo(
        f"  against the two in turn: {ratio}, largest difference {report.largest_difference:.3g}, {samples} inputs"
    )


def parse_input(text: str) -> TensorSpec:
    """Returns the tensor that `name:dtype[axis,...]` declares; an axis is a size or a name.

    Raises:
        UsageError: The text has another form.
    """
    import re

    from edgewright.core.tensors import TensorSpec
    from edgewright.errors import UsageError

    match = re.fullmatch(r"([^:\[\]]+):([a-z0-9_]+)\[([^\[\]]*)\]", text.strip())
    if match is None:
        raise UsageError(f'input "{text}" is not name:dtype[axes]', hint='e.g. "image:float32[batch,3,224,224]"')
    axes = [axis.strip() for axis in match.group(3).split(",") if axis.strip()]
    return TensorSpec(match.group(1), match.group(2), tuple(int(a) if a.isdigit() else a for a in axes))


def _write(path: Path, page: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
