"""A student beside its teacher, and the catalogue of students, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

from edgewright.core.data import PairedDifference, QualityFigure
from edgewright.core.measurement import Ratio
from edgewright.search import wording


class Side(Protocol):
    """One model of a comparison."""

    @property
    def title(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def macs(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def quality(self) -> QualityFigure: ...
    @property
    def difference(self) -> PairedDifference | None: ...
    @property
    def speedup(self) -> Ratio | None: ...


class Figures(Protocol):
    """One student of the catalogue."""

    @property
    def name(self) -> str: ...
    @property
    def takes(self) -> str: ...
    @property
    def gives(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def macs(self) -> int: ...


def sides_table(sides: Sequence[Side], console: Console | None = None) -> None:
    """Prints a teacher and its students."""
    metric = sides[0].quality.metric
    table = Table(
        Column("", no_wrap=True), "parameters", "MACs", "size", metric, "difference", "speed-up", box=SIMPLE_HEAD
    )
    for side in sides:
        table.add_row(
            side.title,
            count(side.parameters),
            count(side.macs),
            wording.size(side.size_bytes),
            f"{side.quality.value:.4f}",
            _difference(side.difference),
            "-" if side.speedup is None else _ratio(side.speedup),
        )
    (console or Console()).print(table)


def catalogue_table(students: Sequence[Figures], console: Console | None = None) -> None:
    """Prints the catalogue."""
    table = Table(Column("student", no_wrap=True), "takes", "gives", "parameters", "MACs", box=SIMPLE_HEAD)
    for each in students:
        table.add_row(each.name, each.takes, each.gives, count(each.parameters), count(each.macs))
    (console or Console()).print(table)


def catalogue_markdown(students: Sequence[Figures]) -> str:
    """Returns the catalogue as a table of a document."""
    rows = [
        f"| `{each.name}` | {each.takes} | {each.gives} | {count(each.parameters)} | {count(each.macs)} |"
        for each in students
    ]
    return "\n".join(("| student | takes | gives | parameters | MACs |", "|---|---|---|---|---|", *rows))


def count(number: int) -> str:
    """Returns a number in thousands or millions, three digits."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def _difference(found: PairedDifference | None) -> str:
    return "-" if found is None else f"{found.value:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def _ratio(found: Ratio) -> str:
    return f"{wording.speed(found.value)} ({found.low:.2f} to {found.high:.2f})"
