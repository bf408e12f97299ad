"""A comparison as a table on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgewright.core.parity import EXACT_DB, LayerParity, Parity

WORST = 5
"""Layers marked for the error they make."""
_NAME = 36
_WIDE = 140
_WIDE_ONLY = ("op", "cosine", "largest error", "values", "range")
"""Columns that a narrower terminal has no room for."""


def decibels(value: float | None) -> str:
    """Returns a ratio for a reader; `equal` where there is no difference, `-` for None."""
    if value is None:
        return "-"
    return "equal" if value >= EXACT_DB else "none" if value <= -EXACT_DB else f"{value:.1f}"


def with_unit(value: float | None) -> str:
    """Returns a ratio with its unit, where it is a number."""
    shown = decibels(value)
    return f"{shown} dB" if shown[-1].isdigit() else shown


def share(value: float) -> str:
    """Returns a share in percent; a dot for none."""
    return "·" if value == 0 else "<0.1%" if value < 0.001 else f"{value:.1%}"


def worst(found: Parity, count: int = WORST) -> frozenset[str]:
    """Returns the tensors whose layers make the largest errors of their own; accumulated ones where those lack."""
    own = [layer for layer in found.layers if layer.local_sqnr_db is not None]
    ranked = sorted(own or found.layers, key=lambda x: x.sqnr_db if x.local_sqnr_db is None else x.local_sqnr_db)
    return frozenset(layer.tensor for layer in ranked[:count] if layer.sqnr_db < EXACT_DB)


def parity_table(found: Parity, console: Console | None = None) -> None:
    """Prints the layers in order, the worst in colour, then outputs and what has no partner."""
    console = console or Console(highlight=False)
    console.print(f"reference  {escape(found.reference)}\ncandidate  {escape(found.candidate)}")
    told = ", ".join(f"{key}: {value}" for key, value in found.conditions.items())
    console.print(escape(f"{found.samples} samples; {told}"), style="dim")
    marked = worst(found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = [n for n, (name, _) in enumerate(_COLUMNS) if console.width >= _WIDE or name not in _WIDE_ONLY]
    for number in shown:
        name, justify = _COLUMNS[number]
        table.add_column(name, justify=justify, overflow="ellipsis", no_wrap=True)  # type: ignore[arg-type]
    for layer in found.layers:
        bad = layer.tensor in marked
        table.add_row(*(_cells(layer, bad)[n] for n in shown), style="red" if bad else "")
    table.add_section()
    for layer in found.outputs:
        table.add_row(*(_cells(layer, False)[n] for n in shown), style="bold")
    console.print(table)
    console.print("dB: signal to error, all errors so far / of this layer alone; ! marks the layers that add most")
    _missing(found, console)


_COLUMNS = (
    ("layer", "left"),
    ("op", "left"),
    ("runs in", "left"),
    ("dB so far", "right"),
    ("dB alone", "right"),
    ("cosine", "right"),
    ("largest error", "right"),
    ("values", "right"),
    ("range", "right"),
    ("outside", "right"),
    ("unused", "right"),
)


def _cells(layer: LayerParity, marked: bool) -> tuple[str, ...]:
    name = layer.tensor if len(layer.tensor) <= _NAME else f"…{layer.tensor[-_NAME + 1 :]}"
    used = layer.range
    return (
        escape(f"{'! ' if marked else '  '}{name}"),
        escape(layer.op),
        escape(layer.precision),
        decibels(layer.sqnr_db),
        decibels(layer.local_sqnr_db),
        f"{layer.cosine:.4f}",
        f"{layer.largest_error:.3g}",
        f"{layer.low:.3g} .. {layer.high:.3g}",
        "" if used is None else f"{used.low:.3g} .. {used.high:.3g}",
        "" if used is None else share(used.saturated),
        "" if used is None else share(used.unused),
    )


def _missing(found: Parity, console: Console) -> None:
    reasons: dict[str, list[str]] = {}
    for tensor, reason in found.unmatched.items():
        reasons.setdefault(reason, []).append(tensor)
    for reason, tensors in sorted(reasons.items(), key=lambda item: -len(item[1]))[:8]:
        shown = ", ".join(tensor[-_NAME:] for tensor in tensors[:3]) + (", ..." if len(tensors) > 3 else "")
        console.print(escape(f"not compared, {len(tensors)} ({shown}): {reason}"), style="dim")
