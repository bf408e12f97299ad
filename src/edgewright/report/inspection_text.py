"""An inspection as tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgewright.report.inspect_html import count, size
from edgewright.report.inspection import Inspection, Times

_SHOWN = 10


def inspection_table(found: Inspection, console: Console | None = None) -> None:
    """Prints the findings."""
    console = console or Console(highlight=False)
    console.print(f"[bold]{escape(found.name)}[/bold]  {found.kind}, opset {found.opset}")
    for line in (*_facts(found), *_import(found), *(f"note: {note}" for note in found.notes)):
        console.print(escape(line))
    operators = ", ".join(f"{op} {number}" for op, number in found.operators.items())
    console.print(f"\noperators: {escape(operators)}")
    _times(found.times, found.device.processor, console)
    _nodes(found, console)
    _targets(found, console)


def _facts(found: Inspection) -> list[str]:
    tensors = [f"input  {spec}" for spec in found.inputs] + [f"output {spec}" for spec in found.outputs]
    on_disk = f"{size(found.file_bytes)} on disk, " if found.file_bytes else ""
    peak = size(found.peak_activation_bytes)
    cost = (
        f"{count(found.parameters)} parameters, {count(found.macs)} MACs, {on_disk}"
        f"{size(found.weight_bytes)} of weights, {peak} of activations at most (at {found.peak_node or 'the input'})"
    )
    return [*tensors, cost]


def _import(found: Inspection) -> list[str]:
    if not found.imported:
        return []
    ratio = found.imported["snr_db"]
    shown = "identical" if ratio is None else f"{ratio:.1f} dB"
    return [
        f"import compared with {found.imported['compared_with']}: {shown}, largest difference "
        f"{found.imported['largest_difference']:.3g} on {found.imported['compared_samples']} samples"
    ]


def _times(times: Times, processor: str, console: Console) -> None:
    if times.note:
        console.print(escape(times.note))
        return
    threads = f"{times.threads} thread{'' if times.threads == 1 else 's'}"
    title = f"time per operator, measured on {processor}, {times.runtime}, {threads}, {times.runs} runs"
    table = Table(box=None, pad_edge=False)
    table.add_column("kernel")
    table.add_column("µs", justify="right")
    table.add_column("share", justify="right")
    for op, time in times.by_operator.items():
        table.add_row(escape(op), f"{time:.0f}", f"{time / times.total:.1%}" if times.total else "")
    console.print(f"\n{escape(title)}")
    console.print(table)


def _nodes(found: Inspection, console: Console) -> None:
    slowest = sorted((row for row in found.nodes if row.microseconds), key=lambda row: -(row.microseconds or 0))
    if not slowest:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("node", "operator", "output"):
        table.add_column(heading, overflow="fold")
    for heading in ("MACs", "µs"):
        table.add_column(heading, justify="right")
    for row in slowest[:_SHOWN]:
        cells = (row.name, row.op, row.shapes[0] if row.shapes else "")
        table.add_row(*map(escape, cells), count(row.macs), f"{row.microseconds:.0f}")
    console.print("\nslowest nodes")
    console.print(table)


def _targets(found: Inspection, console: Console) -> None:
    console.print()
    for row in found.targets:
        if not row.installed:
            console.print(escape(f"target {row.name}: not installed: {row.install}"))
        elif not row.refuses:
            console.print(escape(f"target {row.name}: takes every operator"))
        for reason in row.refuses:
            console.print(escape(f"target {row.name}: refuses {reason}"))
