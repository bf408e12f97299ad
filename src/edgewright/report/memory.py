"""Memory of a model on a microcontroller, for a page: figures in words, each with how it was come by, and the arena."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from edgewright.core.codec import decode_stored
from edgewright.core.memory import MEMORY_FILE, PICTURE_FILE, Memory
from edgewright.core.recipe import Candidate
from edgewright.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what, how much, and whether that was measured, predicted or estimated."""

    title: str
    value: str
    how: str


@dataclass(frozen=True, slots=True)
class MemoryView:
    """The section of one candidate.

    Attributes:
        figures: Memory, and the accelerator where there is one.
        peak: Tensors in the arena at the operator that needs most: name, bytes.
        picture: The arena over operators, as a `data:` address; empty where it was not kept.
    """

    figures: tuple[Figure, ...]
    peak: tuple[tuple[str, str], ...]
    picture: str


def memory(candidate: Candidate, evidence: Evidence) -> MemoryView | None:
    """Returns the section of a candidate; None where its artifact is not for a microcontroller, or is gone."""
    folder = evidence.file(candidate, "artifact")
    if folder is None or not (folder / MEMORY_FILE).is_file():
        return None
    found = decode_stored(Memory, (folder / MEMORY_FILE).read_bytes())
    drawn = folder / PICTURE_FILE
    encoded = base64.b64encode(drawn.read_bytes()).decode() if drawn.is_file() else ""
    return MemoryView(
        tuple(_figures(found)),
        tuple((str(one["name"]), _kb(one["bytes"])) for one in found.peak),
        f"data:image/svg+xml;base64,{encoded}" if encoded else "",
    )


def _figures(found: Memory) -> Iterator[Figure]:
    here, board = found.predicted["here"], found.predicted["board"]
    yield Figure("Arena in the interpreter here (64-bit)", _kb(found.measured["total"]), "measured")
    before = f"{_kb(here['head'] + here['tail'])} ({found.error:+.1%})"
    yield Figure("the same, worked out before running it", before, "predicted")
    yield Figure("Arena on a 32-bit board, reference kernels", _kb(board["total"]), "predicted")
    yield Figure("of it tensors and scratch, sharing room over time", _kb(board["head"]), "predicted")
    flash = found.flash
    yield Figure("Flash: model, kernels and runtime", _kb(flash["total"]), "estimated")
    yield Figure("of it the model", _kb(flash["model"]), "measured")
    if found.board:
        yield from _board(found)
    if found.accelerator:
        yield from _accelerator(found)


def _board(found: Memory) -> Iterator[Figure]:
    board = found.board
    answer = "does not fit" if board["problems"] else "fits"
    for title, need, has in (("RAM", "ram_needed", "ram_bytes"), ("Flash", "flash_needed", "flash_bytes")):
        text = f"{_kb(board[need])} of {_kb(board[has])}: {answer}"
        yield Figure(f"{title} of {board['title']}", text, "predicted" if title == "RAM" else "estimated")


def _accelerator(found: Memory) -> Iterator[Figure]:
    given = found.accelerator
    total = given["npu_operators"] + given["cpu_operators"]
    yield Figure(
        f"Operators on {given['accelerator']}",
        f"{given['npu_operators']} of {total} ({given['npu_share']:.0%})",
        "predicted by Vela",
    )
    yield Figure("its SRAM", _kb(given["sram_bytes"]), "predicted by Vela")
    time = f"{given['cycles']:,} ({given['milliseconds']:.3g} ms at {given['clock_mhz']:g} MHz)"
    yield Figure("its cycles per inference", time, "predicted by Vela")


def _kb(size: int) -> str:
    return f"{size / 1024:.1f} KB"
