"""`edgewright plan`: how a model is quantised, shown, compared, and planned anew for another runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

if TYPE_CHECKING:
    from edgewright.core.target import TensorPlan

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Source = Annotated[Path, typer.Argument(help="A quantised ONNX file, a model folder, or a plan.json.")]


@app.command("show")
def show(
    model: Source,
    scheme: Annotated[str, typer.Option(help="Check the model against this scheme, e.g. onnxruntime-u8s8.")] = "",
    as_json: Json = False,
) -> None:
    """Show every quantised tensor of a model, and what stays float."""
    from edgewright.project import plans

    shown = plans.show(model, scheme)
    if as_json:
        _print(shown)
        return
    width = max(len(t.tensor) for t in shown.plan.tensors)
    for tensor in shown.plan.tensors:
        typer.echo(f"{tensor.tensor:{width}}  {_line(tensor)}")
    for name, reason in shown.plan.kept_float.items():
        typer.echo(f"{name:{width}}  float: {reason}")
    for finding in shown.findings:
        typer.echo(f"breaks {scheme}: {finding}")
    if scheme and not shown.findings:
        typer.echo(f"obeys {scheme}")
    if shown.predicted is not None:
        typer.echo("predicted: " + ", ".join(f"{count} {kind}" for kind, count in shown.predicted.items()))


@app.command("diff")
def diff(first: Source, second: Source, as_json: Json = False) -> None:
    """Show where two plans differ: type, scale, zero point, axis, and what stays float."""
    from edgewright.project import plans

    found = plans.diff(plans.read(first), plans.read(second))
    if as_json:
        _print(found)
        return
    for each in found:
        typer.echo(f"{each.name}: {each.what}: {each.first} | {each.second}")
    typer.echo(f"{len(found)} differences" if found else "the plans are the same")


@app.command("apply")
def apply(
    model: Annotated[Path, typer.Argument(help="A quantised ONNX file or model folder; or a float one, with --plan.")],
    scheme: Annotated[str, typer.Option(help="Scheme to obey, e.g. openvino-u8s8.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model and its plan.")],
    plan: Annotated[
        Optional[Path],  # noqa: UP045 - Typer reads this at run time, on Python 3.10 too
        typer.Option(help="Take the ranges from this model or plan.json."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantise a model by the rules of another scheme, with the ranges its plan holds."""
    from edgewright.project import plans

    made = plans.apply_plan(model, scheme, out, plan)
    if as_json:
        _print(made)
        return
    typer.echo(f"wrote {made.model}: {made.quantised} tensors quantised, obeys {made.scheme}")
    for name, reason in made.kept_float.items():
        typer.echo(f"  {name} stays float: {reason}")


def _line(tensor: TensorPlan) -> str:
    scales, zeros = tensor.scale, sorted(set(tensor.zero_point))
    scale = f"{scales[0]:.6g}" if len(scales) == 1 else f"{min(scales):.6g} to {max(scales):.6g}"
    channels = "" if tensor.axis is None else f", {len(scales)} channels along axis {tensor.axis}"
    zero = str(zeros[0]) if len(zeros) == 1 else f"{zeros[0]} to {zeros[-1]}"
    return f"{tensor.dtype:6} scale {scale}{channels}, zero point {zero}  ({tensor.reason})"


def _print(value: Any) -> None:
    from edgewright.core.codec import encode

    typer.echo(json.dumps(encode(value), ensure_ascii=False))
