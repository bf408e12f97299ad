"""What a trace file is, by its first bytes, and how it is opened."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

NSYS, NSYS_SQLITE, PERFETTO, CHROME, SIMPLEPERF, PERF, TRTEXEC, UNKNOWN = (
    *("nsys", "nsys-sqlite", "perfetto", "chrome", "simpleperf", "perf", "trtexec", "unknown"),
)
TITLES = {
    NSYS: "Nsight Systems report",
    NSYS_SQLITE: "Nsight Systems export (SQLite)",
    PERFETTO: "Perfetto trace",
    CHROME: "Chrome trace (JSON)",
    SIMPLEPERF: "simpleperf report (protobuf)",
    PERF: "perf or simpleperf recording",
    TRTEXEC: "trtexec profile (JSON)",
    UNKNOWN: "file of an unknown kind",
}
HOW_TO_OPEN = {
    NSYS: "nsys-ui FILE; `nsys export --type sqlite FILE` gives a file whose kernels are listed here",
    NSYS_SQLITE: "sqlite3 FILE, or `nsys stats FILE`",
    PERFETTO: "https://ui.perfetto.dev (drop the file there; it stays on your machine)",
    CHROME: "https://ui.perfetto.dev or chrome://tracing (drop the file there; it stays on your machine)",
    SIMPLEPERF: "report_html.py -i FILE of the Android NDK, or https://profiler.firefox.com",
    PERF: "perf report -i FILE, or simpleperf report -i FILE",
    TRTEXEC: "a text editor; it lists every layer",
    UNKNOWN: "the tool that wrote it",
}
_HEAD_BYTES = 1 << 16
_SUFFIXES = {".nsys-rep": NSYS, ".qdrep": NSYS, ".pftrace": PERFETTO, ".perfetto-trace": PERFETTO}
_PACKET = b"\x0a"
"""Field 1 of a protobuf message, with a length: every packet of a Perfetto trace begins so."""


def kind_of(path: Path) -> str:
    """Returns the kind of a file: by its first bytes, and by its name where those say nothing."""
    head = _head(path)
    if head.startswith(b"SQLite format 3\0"):
        return NSYS_SQLITE
    if head.startswith(b"SIMPLEPERF"):
        return SIMPLEPERF
    if head.startswith(b"PERFILE2"):
        return PERF
    if head.lstrip()[:1] in (b"[", b"{"):
        return _json_kind(head)
    named = _SUFFIXES.get(path.suffix.lower(), UNKNOWN)
    if named == PERFETTO or (named == UNKNOWN and _is_perfetto(head, path.stat().st_size)):
        return PERFETTO if _is_perfetto(head, path.stat().st_size) else UNKNOWN
    return named


def open_text(path: Path) -> bytes:
    """Returns the whole text of a file, unpacked where it is gzip."""
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, _HEAD_BYTES)
    except zlib.error:
        return head


def _json_kind(head: bytes) -> str:
    text = head.decode("utf-8", "replace")
    if '"traceEvents"' in text or ('"ph"' in text and '"ts"' in text):
        return CHROME
    if '"averageMs"' in text and '"percentage"' in text:
        return TRTEXEC
    return CHROME if _is_empty_list(text) else UNKNOWN


def _is_empty_list(text: str) -> bool:
    try:
        return bool(json.loads(text) == [])
    except ValueError:
        return False


def _is_perfetto(head: bytes, size: int) -> bool:
    """Follows the lengths of the first packets."""
    at = packets = 0
    while at < len(head) and packets < 4:
        if head[at : at + 1] != _PACKET:
            return False
        length, at = _varint(head, at + 1)
        if length <= 0 or at + length > size:
            return False
        at += length
        packets += 1
    return packets > 0


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            return -1, at
        byte = data[at]
        value, at = value | (byte & 0x7F) << shift, at + 1
        if byte < 0x80:
            return value, at
    return -1, at
