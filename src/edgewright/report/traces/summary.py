"""The longest kernels of a trace, where its format can be read with what is installed here."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.report.traces.kinds import CHROME, NSYS_SQLITE, TRTEXEC, open_text

SHOWN = 10
LARGEST_JSON = 256 << 20
_SECONDS = 30.0
_STEPS = 100_000
_ORT_SUFFIX = "_kernel_time"
_KERNELS = """
SELECT COALESCE(names.value, '?'), COUNT(*), SUM(kernels.end - kernels.start) AS total
FROM CUPTI_ACTIVITY_KIND_KERNEL AS kernels LEFT JOIN StringIds AS names ON names.id = kernels.shortName
GROUP BY 1 ORDER BY total DESC
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One row: name, how often, milliseconds together, share of all kernels."""

    name: str
    calls: int
    milliseconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The longest kernels, and what a reader must know: how many there are, or why there are none."""

    kernels: tuple[Kernel, ...]
    note: str


def summarise(path: Path, kind: str) -> Summary:
    """Reads a trace. A damaged or strange one gives no rows and a note, never an error."""
    try:
        if kind == NSYS_SQLITE:
            return _table(_nsys(path))
        if kind in (CHROME, TRTEXEC):
            if path.stat().st_size > LARGEST_JSON:
                return Summary((), "too large to be summarised here")
            document = json.loads(open_text(path))
            return _table(_chrome(document) if kind == CHROME else _trtexec(document))
    except (OSError, ValueError, sqlite3.Error, TypeError, KeyError, EOFError) as error:
        return Summary((), f"cannot be summarised: {error}")
    return Summary((), "")


def _table(totals: Mapping[str, tuple[int, float]]) -> Summary:
    whole = sum(spent for _, spent in totals.values())
    rows = sorted(totals.items(), key=lambda item: (-item[1][1], item[0]))
    kernels = [Kernel(name, calls, spent, spent / whole if whole else 0.0) for name, (calls, spent) in rows[:SHOWN]]
    if not rows:
        return Summary((), "no kernels in it")
    return Summary(tuple(kernels), f"{len(rows)} kernels, {whole:.3g} ms together")


def _nsys(path: Path) -> dict[str, tuple[int, float]]:
    """Reads the kernels of an export. It is somebody else's file: read only, not trusted, in limited time."""
    end = time.monotonic() + _SECONDS
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        database.execute("PRAGMA trusted_schema = OFF")
        database.set_progress_handler(lambda: int(time.monotonic() > end), _STEPS)
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"CUPTI_ACTIVITY_KIND_KERNEL", "StringIds"} <= tables:
            return {}
        rows = database.execute(_KERNELS).fetchall()
    return {str(name): (int(calls), float(total) / 1e6) for name, calls, total in rows}


def _chrome(document: Any) -> dict[str, tuple[int, float]]:
    events = document.get("traceEvents", []) if isinstance(document, dict) else document
    complete = [e for e in events if isinstance(e, dict) and e.get("ph") == "X" and "dur" in e]
    kernels = [e for e in complete if e.get("cat") == "Node" and str(e.get("name", "")).endswith(_ORT_SUFFIX)]
    return _sums(
        (str(e.get("name", "?")).removesuffix(_ORT_SUFFIX), float(e["dur"]) / 1000.0) for e in kernels or complete
    )


def _trtexec(document: Any) -> dict[str, tuple[int, float]]:
    layers = [entry for entry in document if isinstance(entry, dict) and "averageMs" in entry]
    return _sums((str(entry.get("name", "?")), float(entry["averageMs"])) for entry in layers)


def _sums(found: Iterable[tuple[str, float]]) -> dict[str, tuple[int, float]]:
    totals: dict[str, tuple[int, float]] = {}
    for name, spent in found:
        calls, sofar = totals.get(name, (0, 0.0))
        totals[name] = (calls + 1, sofar + spent)
    return totals
