"""Time per operator as a trace in the Trace Event Format (JSON), which ui.perfetto.dev and chrome://tracing open."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgewright.core.target import NodePlacement, OperatorTime

NOTE = "medians of a profiled run, one after another: shares of the total mean more than microseconds"


def chrome_trace(
    candidates: Mapping[str, Sequence[OperatorTime]],
    placements: Mapping[str, Sequence[NodePlacement]] | None = None,
) -> bytes:
    """Returns a trace with one line per candidate, its operators one after another in the order they run.

    Args:
        candidates: What a line is called -> its operators.
        placements: The same names -> where nodes run and in which precision, shown with each operator.
    """
    events: list[dict[str, Any]] = [_named("process_name", 0, "Edgewright: time per operator")]
    for thread, (title, operators) in enumerate(candidates.items(), start=1):
        known = {each.node: each for each in (placements or {}).get(title, ())}
        events += [_named("thread_name", thread, title), *_line(thread, operators, known)]
    document = {"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"note": NOTE}}
    return (json.dumps(document, ensure_ascii=False) + "\n").encode()


def _named(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": 1, "tid": thread, "args": {"name": name}}


def _line(
    thread: int, operators: Sequence[OperatorTime], known: Mapping[str, NodePlacement]
) -> Iterable[dict[str, Any]]:
    at = 0.0
    for each in operators:
        placed = known.get(each.node)
        more = {"runs on": placed.where, "precision": placed.precision} if placed else {}
        yield {
            "ph": "X",
            "name": each.node or each.op,
            "cat": each.op,
            "pid": 1,
            "tid": thread,
            "ts": round(at, 3),
            "dur": round(each.microseconds, 3),
            "args": {"operator": each.op, **more},
        }
        at += each.microseconds
