"""An artifact measured on devices: on a terminal, and as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgewright.core.measured import Measured
from edgewright.report import power, telemetry
from edgewright.report.html import page_parts
from edgewright.report.power import power_text
from edgewright.report.rows import conditions
from edgewright.search import wording

_HEADERS = ("device", "p50", "p95", "speed-up", "rate", "load", "memory", "energy")
_OPERATORS = 10


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """What a reader sees of one device."""

    device: str
    machine: str
    runs: str
    cells: tuple[str, ...]
    conditions: str
    quality: str
    operators: tuple[tuple[str, str, str], ...]
    golden_ok: bool


def device_row(found: Measured) -> DeviceRow:
    """Returns the words for one device."""
    timing, device = found.timing, found.device
    ratio = timing.speedup
    cells = (
        wording.milliseconds(timing.latency_ms.p50),
        wording.milliseconds(timing.latency_ms.p95),
        f"{wording.speed(ratio.value)} ({ratio.low:.2f} to {ratio.high:.2f})" if found.reference else "-",
        f"{timing.throughput:.3g}/s" if timing.throughput < 100 else f"{timing.throughput:.0f}/s",
        wording.milliseconds(timing.load_ms),
        wording.size(timing.peak_memory_bytes),
        f"{timing.energy_mj:.3g} mJ" if timing.energy_mj is not None else "-",
    )
    machine = f"{device.processor}, {wording.plural(device.cores, 'core')}, {device.machine}, {device.system}"
    variant = f", variant {found.variant}" if found.variant else ""
    return DeviceRow(
        device=device.name,
        machine=machine,
        runs=f"{found.runtime}, {found.precision}{variant}; timed with {found.samples}",
        cells=cells,
        conditions=conditions(timing),
        quality="; ".join(filter(None, (_decisions(found), _quality(found)))),
        operators=_operators(found),
        golden_ok=found.ok,
    )


def _decisions(found: Measured) -> str:
    if not found.golden:
        return ""
    return f"{sum(check.ok for check in found.golden)} of {len(found.golden)} golden decisions as recorded"


def _quality(found: Measured) -> str:
    if found.quality is None:
        return ""
    figures = [f"{f.metric} {f.value:.4g} ({f.low:.4g} to {f.high:.4g}, n={f.samples})" for f in found.quality.figures]
    return ", ".join(figures)


def _operators(found: Measured) -> tuple[tuple[str, str, str], ...]:
    total = sum(each.microseconds for each in found.operators) or 1.0
    slowest = sorted(found.operators, key=lambda each: -each.microseconds)[:_OPERATORS]
    return tuple((e.node, e.op, f"{e.microseconds:.1f} us, {e.microseconds / total:.0%}") for e in slowest)


def devices_table(found: Sequence[Measured], console: Console | None = None) -> None:
    """Prints a table, and per device what the figures rest on."""
    console = console or Console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for header in _HEADERS:
        table.add_column(header, overflow="fold", justify="left" if header == "device" else "right")
    rows = [device_row(each) for each in found]
    for row in rows:
        table.add_row(Text(row.device, style="" if row.golden_ok else "bold red"), *map(Text, row.cells))
    console.print(table)
    for row in rows:
        for line in (row.machine, row.runs, row.conditions, row.quality):
            if line:
                console.print(Text(f"{row.device}: {line}", style="dim"), soft_wrap=True)
        for node, op, share in row.operators:
            console.print(Text(f"{row.device}: {op} {node}: {share}", style="dim"), soft_wrap=True)
    for each in found:
        if each.power is not None:
            console.print(Text(f"\n{each.device.name}\n{power_text(each.power)}"), soft_wrap=True)


def devices_html(found: Sequence[Measured]) -> str:
    """Returns a page that opens offline; it runs a script only where there is something to plot.

    Raises:
        ToolchainMissing: jinja2 or plotly is not installed.
    """
    pages = [_page(each, f"device-{index}") for index, each in enumerate(found)]
    figures = {key: figure for page in pages for key, figure in page.figures.items()}
    environment, parts = page_parts()
    return environment.get_template("devices.html.jinja").render(
        **parts,
        subject=found[0].subject if found else "",
        pages=pages,
        headers=_HEADERS,
        plots=figures,
        captions=telemetry.CAPTIONS,
        power_captions=power.CAPTIONS,
    )


@dataclass(frozen=True, slots=True)
class _Page:
    """One device: its row, and what the page draws of it.

    Attributes:
        row: See `DeviceRow`.
        anchor: What the ids of its plots begin with.
        over_time: Title, anchor and kinds of the plots over time, one per power mode.
        power: The rows of the sweep and its headline; None where there was none.
        power_kinds: Of the plots of the sweep.
        figures: Id -> figure.
    """

    row: DeviceRow
    anchor: str
    over_time: tuple[tuple[str, str, tuple[str, ...]], ...]
    power: tuple[tuple[power.PowerRow, ...], str] | None
    power_kinds: tuple[str, ...]
    figures: Mapping[str, Any]


def _page(found: Measured, anchor: str) -> _Page:
    sweep = found.power
    points = [(p.mode, p.timing.conditions.telemetry) for p in sweep.points if p.timing] if sweep else []
    series = [("", found.timing.conditions.telemetry), *points]
    drawn = [(title, f"{anchor}-{index}", telemetry.plots(each)) for index, (title, each) in enumerate(series)]
    figures = {f"{place}-{kind}": figure for _, place, kinds in drawn for kind, figure in kinds.items()}
    bars = power.power_plots(sweep) if sweep else {}
    figures |= {f"{anchor}-{kind}": figure for kind, figure in bars.items()}
    return _Page(
        row=device_row(found),
        anchor=anchor,
        over_time=tuple((title, place, tuple(kinds)) for title, place, kinds in drawn if kinds),
        power=(power.power_rows(sweep), power.headline(sweep)) if sweep else None,
        power_kinds=tuple(bars),
        figures=figures,
    )
