"""`edgewright trace`: traces of other tools in a report, and our profile for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command("attach")
def attach(
    output: Annotated[Path, typer.Argument(help="Output folder of `edgewright optimize`, or a page.")],
    files: Annotated[list[Path], typer.Argument(help="Nsight Systems, Perfetto, simpleperf, Chrome JSON, trtexec.")],
    largest: Annotated[int, typer.Option(min=1, help="Most megabytes of one file.")] = 512,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Copy traces beside a report and list them in it, with their longest kernels."""
    from edgewright.core.codec import encode
    from edgewright.report.traces import attach as attach_files

    found = attach_files(output, files, largest=largest << 20)
    if as_json:
        typer.echo(json.dumps({"traces": encode(found)}, ensure_ascii=False))
        return
    for each in found:
        typer.echo(f"{each.name}: {each.title}{f', {each.note}' if each.note else ''}")
    typer.echo(f"report: {output if output.suffix == '.html' else output / 'report.html'}")


@app.command("export")
def export(
    output: Annotated[Path, typer.Argument(help="Output folder of `edgewright optimize`.")],
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("trace.json"),
    candidate: Annotated[str, typer.Option(help="Id of a candidate; the original and the winners by default.")] = "",
) -> None:
    """Write the time per operator as a trace that ui.perfetto.dev opens."""
    from edgewright.project.traces import export as export_trace
    from edgewright.store.files import write_atomic

    write_atomic(to, export_trace(output, candidate))
    typer.echo(f"{to}: open https://ui.perfetto.dev and drop the file there")
