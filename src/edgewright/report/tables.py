"""The final tables on a terminal: one per target, every figure with its unit and its interval."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgewright.core.recipe import Study
from edgewright.report.rows import ABSENT, STYLES, Row, rows
from edgewright.report.standings import headline, standing_rows

_WIDE = 100


def print_study(study: Study, console: Console | None = None) -> None:
    """Prints a table and the winner's sentence for every target, then the winners beside each other, then warnings."""
    console = console or Console()
    for target in dict.fromkeys(c.target for c in study.candidates):
        console.print(target_table(study, target, console.width))
    if study.standings:
        console.print(standings_table(study))
    for warning in study.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def target_table(study: Study, target: str, width: int = _WIDE) -> Group:
    """Returns the table of one target: the original, then its candidates; below it why each won or lost.

    Args:
        study: Annotated.
        target: Name of the target.
        width: Of the terminal in columns; narrow ones show fewer columns, never fewer candidates.
    """
    found = rows(study, target)
    metric = study.reference.measurement.tune.figures[0].metric if study.reference.measurement else "quality"
    table = Table(
        title=Text(_headline(study, target), style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD if width >= _WIDE else None,
        padding=(0, 1, 0, 0) if width < _WIDE else (0, 1),
        pad_edge=False,
    )
    table.add_column("candidate", overflow="fold", min_width=10)
    for header in _headers(metric, width):
        table.add_column(header, justify="right", overflow="fold")
    table.add_column("verdict", no_wrap=True, min_width=12)
    for row in found:
        table.add_row(_name(row), *_cells(row, width), _verdict(row), style="bold" if row.winner else "")
    return Group(table, *_reasons(found), Text(_basis(study, found), style="dim"), Text(""))


def standings_table(study: Study) -> Group:
    """Returns the table of the targets' winners beside the best of all."""
    table = Table(title=Text(headline(study), style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("runtime alone", no_wrap=True)
    table.add_column("its best", overflow="fold")
    for header in ("quality", "change", "speed-up", "the best of all\nis better by, 95%"):
        table.add_column(header, justify="right", overflow="fold")
    for each in standing_rows(study):
        style = "" if each.met else "red"
        cells = (each.title, each.quality, each.change, each.speedup)
        advantage = Text(each.advantage).append(f"\n{each.interval}" if each.interval else "", style="dim")
        table.add_row(Text(each.target, style=style), *map(Text, cells), advantage)
    return Group(table, Text(""))


def _headline(study: Study, target: str) -> str:
    if target not in study.winners:
        return f"{target}: nothing ran"
    outcome = "meets the budget" if study.met.get(target) else "does NOT meet the budget"
    return f"{target}: {study.best(target).recipe.title} {outcome}"


def _headers(metric: str, width: int) -> list[str]:
    interval = "\n95%" if width >= _WIDE else ""
    headers = [f"{metric}{interval}", "change\npaired 95%", "p50\np95", "speed-up\n95%", "size"]
    return [*headers, "peak\nmemory"] if width >= _WIDE else headers


def _cells(row: Row, width: int) -> list[RenderableType]:
    wide = width >= _WIDE
    quality = f"{row.quality} {row.split}" if row.quality != ABSENT else ABSENT
    cells: list[RenderableType] = [
        _two(quality, row.quality_interval if wide else ABSENT),
        _two(row.drop, row.drop_interval.removesuffix(" points")),
        _two(row.p50, row.p95, dim=False),
        _two(row.speedup, row.speedup_interval),
        Text(row.size),
    ]
    return [*cells, Text(row.memory)] if wide else cells


def _two(first: str, second: str, *, dim: bool = True) -> Text:
    if second == ABSENT:
        return Text(first, style="dim" if first == ABSENT else "")
    return Text(first).append(f"\n{second}", style="dim" if dim else "")


def _name(row: Row) -> Text:
    return Text(f"> {row.title}" if row.winner else row.title)


def _verdict(row: Row) -> Text:
    return Text("winner" if row.winner and row.verdict == "met" else row.verdict, style=STYLES.get(row.verdict, ""))


def _reasons(found: tuple[Row, ...]) -> list[Text]:
    lines = []
    for row in found:
        if row.verdict == "reference" or not row.why:
            continue
        mark = ">" if row.winner else " "
        lines.append(Text(f"{mark} ").append(row.title, style="bold").append(f": {row.why}"))
    return lines


def _basis(study: Study, found: tuple[Row, ...]) -> str:
    kinds = sorted({row.basis for row in found if row.basis != "not timed"}) or ["not timed"]
    target = next((c.target for c in study.candidates if c.id in {row.id for row in found}), "")
    device = study.devices.get(target, study.device)
    return f"{', '.join(kinds)} on {device.name}: {device.processor}; the budget is judged on tune"
