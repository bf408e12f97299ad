"""Copies traces beside a report and lists them in it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgewright.core.codec import decode_stored, encode_json
from edgewright.core.digest import Digest
from edgewright.errors import Corrupt, UsageError
from edgewright.report.traces.kinds import HOW_TO_OPEN, TITLES, kind_of
from edgewright.report.traces.summary import Kernel, summarise
from edgewright.search import wording
from edgewright.store.files import digest_file, full_disk_explained, write_atomic

FOLDER, INDEX, PAGE = "traces", "traces.json", "report.html"
LARGEST_BYTES = 512 << 20
BEGIN, END = "<!-- traces -->", "<!-- end of traces -->"
_BEFORE = ('<section id="environment"', "</main>")


@dataclass(frozen=True, slots=True)
class Attached:
    """One trace beside a report.

    Attributes:
        name: File name in the folder `traces`.
        kind: See `edgewright.report.traces.kinds`.
        size: Bytes.
        digest: Of its content.
        kernels: The longest ones, where it could be read.
        note: How many there are, or why none are shown.
    """

    name: str
    kind: str
    size: int
    digest: Digest
    kernels: tuple[Kernel, ...] = ()
    note: str = ""

    @property
    def title(self) -> str:
        """The kind in words."""
        return TITLES.get(self.kind, self.kind)

    @property
    def how_to_open(self) -> str:
        """What shows it."""
        return HOW_TO_OPEN.get(self.kind, "").replace("FILE", self.name)

    @property
    def link(self) -> str:
        """Its address from the report."""
        return f"{FOLDER}/{quote(self.name)}"


def attach(output: Path, files: Sequence[Path], *, largest: int = LARGEST_BYTES) -> tuple[Attached, ...]:
    """Copies files into the folder `traces` beside a report and lists them in it; returns all that are there.

    A file that is there already is not copied again; another of the same name gets a number.

    Args:
        output: Output folder of a search, which holds `report.html`; or a page, such as that of measured devices.
        files: The traces.
        largest: Most bytes of one file.

    Raises:
        UsageError: A file is not there or too large, or there is no report.
        OutOfSpace: The disk is full; what was there before stays.
    """
    page = output if output.suffix == ".html" else output / PAGE
    if not page.is_file():
        hint = "name the output folder of `edgewright optimize`, or a page that Edgewright wrote"
        raise UsageError(f"there is no report {page}", hint=hint)
    for file in files:
        _refuse(file, largest)
    folder = page.parent / FOLDER
    folder.mkdir(exist_ok=True)
    known = {each.digest: each for each in attached(page.parent)}
    for file in files:
        digest = digest_file(file)
        if digest not in known:
            known[digest] = _copied(file, folder, digest, {each.name for each in known.values()})
    found = tuple(known.values())
    write_atomic(folder / INDEX, encode_json(found))
    write_atomic(page, spliced(page.read_text(encoding="utf-8"), section(found)).encode())
    return found


def attached(output: Path) -> tuple[Attached, ...]:
    """Returns the traces beside a report.

    Raises:
        Corrupt: Their list cannot be read.
    """
    index = output / FOLDER / INDEX
    if not index.is_file():
        return ()
    try:
        return decode_stored(tuple[Attached, ...], index.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{index}: {error}", hint=f"delete {index}, and attach the files beside it again") from error


def section(found: Sequence[Attached]) -> str:
    """Returns the part of a report that lists traces; empty where there are none.

    Raises:
        ToolchainMissing: jinja2 is not installed.
    """
    if not found:
        return ""
    from edgewright.report.html import templates

    module: Any = templates().get_template("traces.html.jinja").module
    return str(module.traces(found))


def spliced(page: str, text: str) -> str:
    """Puts the section into a page: in the place of the one that is there, else before the environment or at the end.

    Raises:
        UsageError: It is no page of ours.
    """
    before, begins, rest = page.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if begins and ends:
        return f"{before}{BEGIN}{text}{END}{after}"
    for place in _BEFORE:
        before, found, after = page.rpartition(place)
        if found:
            return f"{before}{BEGIN}{text}{END}\n{found}{after}"
    raise UsageError("this page has no place for traces", hint="name a page that Edgewright wrote")


def _refuse(file: Path, largest: int) -> None:
    if not file.is_file():
        raise UsageError(f"{file} is no file", hint="name the trace files to attach")
    size = file.stat().st_size
    if size > largest:
        hint = "record a shorter time, or raise --largest"
        raise UsageError(f"{file} has {wording.size(size)}, at most {wording.size(largest)} are copied", hint=hint)


def _copied(file: Path, folder: Path, digest: Digest, taken: set[str]) -> Attached:
    name = _free(_safe(file.name), taken)
    with full_disk_explained(folder):
        handle, partial = tempfile.mkstemp(dir=folder, prefix=".copying-")
        os.close(handle)
        try:
            shutil.copyfile(file, partial)
            Path(partial).chmod(0o644)
            Path(partial).replace(folder / name)
        finally:
            Path(partial).unlink(missing_ok=True)
    kind = kind_of(file)
    told = summarise(folder / name, kind)
    return Attached(name, kind, (folder / name).stat().st_size, digest, told.kernels, told.note)


def _safe(name: str) -> str:
    """Returns a name that means the same everywhere: no separators, no control characters, not hidden, not ours."""
    plain = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", name).lstrip(".") or "trace"
    return f"_{plain}" if plain == INDEX else plain


def _free(name: str, taken: set[str]) -> str:
    stem, dot, rest = name.partition(".")
    numbers = (f"{stem}-{number}{dot}{rest}" for number in range(2, len(taken) + 3))
    return next(candidate for candidate in (name, *numbers) if candidate not in taken)
