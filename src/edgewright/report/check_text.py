"""A check as tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgewright.report.checking import REFUSED, Check, Finding, TargetCheck

_SHOWN = 3


def check_table(found: Check, console: Console | None = None, *, every: bool = False) -> None:
    """Prints one line per target, then one block per finding; findings that targets share are told once.

    Args:
        found: The check.
        console: Standard output by default.
        every: Name every layer, not the first few.
    """
    console = console or Console(highlight=False)
    console.print(f"[bold]{escape(found.model)}[/bold]  opset {found.opset}, {found.nodes} operators after clean-up")
    for note in found.notes:
        console.print(escape(f"note: {note}"))
    console.print(_overview(found.targets))
    for finding, targets in _together(found.targets):
        mark = "[red]refused[/red]" if finding.level == REFUSED else "[yellow]risky[/yellow]"
        console.print(f"\n{mark} [bold]{escape(finding.rule)}[/bold]  {escape(', '.join(targets))}")
        if finding.layers:
            console.print(escape(f"  where:   {_where(finding, every)}"))
        console.print(escape(f"  why:     {finding.why}"))
        console.print(escape(f"  instead: {finding.instead}"))


def _overview(targets: tuple[TargetCheck, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("target", "takes it", "refused", "risky", "in integers", "INT8 scheme"):
        table.add_column(heading, justify="right" if heading in ("refused", "risky", "in integers") else "left")
    for row in targets:
        refused = sum(finding.level == REFUSED for finding in row.findings)
        takes = f"not asked: {row.install}" if row.install else "no" if refused else "yes"
        share = f"{row.integer_share:.0%}" if row.integer_share is not None else ""
        counts = (str(refused) if not row.install else "", str(len(row.findings) - refused))
        table.add_row(*map(escape, (row.target, takes, *counts, share, row.scheme)))
    return table


def _together(targets: tuple[TargetCheck, ...]) -> list[tuple[Finding, list[str]]]:
    """Returns every finding once, with the targets it holds for; the refused first."""
    found: dict[Finding, list[str]] = {}
    for row in targets:
        for finding in row.findings:
            found.setdefault(finding, []).append(row.target)
    return sorted(found.items(), key=lambda pair: pair[0].level != REFUSED)


def _where(finding: Finding, every: bool) -> str:
    names = list(dict.fromkeys(_named(finding)))
    shown = names if every else names[:_SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{', '.join(shown)}{more}"


def _named(finding: Finding) -> list[str]:
    return [f"{layer.shown}{f' ({layer.line})' if layer.line else ''}" for layer in finding.layers]
