"""Traces of other tools beside a report, and our own profile as one."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edgewright.core.codec import encode_json
from edgewright.core.recipe import Study
from edgewright.core.target import NodePlacement, OperatorTime
from edgewright.errors import Corrupt, UsageError
from edgewright.project.traces import export
from edgewright.report import write_report
from edgewright.report.devices import devices_html
from edgewright.report.evidence import NoEvidence
from edgewright.report.traces import attach, attached, chrome_trace
from edgewright.report.traces.kinds import HOW_TO_OPEN, TITLES, kind_of
from edgewright.report.traces.summary import summarise

ORT = [
    {"cat": "Session", "ph": "X", "name": "model_loading", "ts": 0, "dur": 90000, "pid": 1, "tid": 1, "args": {}},
    {"cat": "Session", "ph": "X", "name": "model_run", "ts": 100, "dur": 900, "pid": 1, "tid": 1, "args": {}},
    {"cat": "Node", "ph": "X", "name": "conv_kernel_time", "ts": 110, "dur": 600, "pid": 1, "tid": 1, "args": {}},
    {"cat": "Node", "ph": "X", "name": "conv_kernel_time", "ts": 800, "dur": 150, "pid": 1, "tid": 1, "args": {}},
    {"cat": "Node", "ph": "X", "name": "<gemm>_kernel_time", "ts": 720, "dur": 250, "pid": 1, "tid": 1, "args": {}},
    {"cat": "Node", "ph": "X", "name": "conv_fence_before", "ts": 105, "dur": 5, "pid": 1, "tid": 1, "args": {}},
]


def nsys(path: Path) -> Path:
    """An export with the tables that Nsight Systems writes, shortened to the columns that matter."""
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        database.execute(
            "CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT, end INT, shortName INT, demangledName INT)"
        )
        database.executemany("INSERT INTO StringIds VALUES (?, ?)", [(1, "sm80_xmma_fprop"), (2, "poolingForward")])
        rows = [(0, 3_000_000, 1, 1), (3_000_000, 4_000_000, 2, 2), (5_000_000, 6_000_000, 1, 1)]
        database.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?)", rows)
    database.close()
    return path


def perfetto(*sizes: int) -> bytes:
    packets = []
    for size in sizes:
        length = bytes([size & 0x7F | 0x80, size >> 7]) if size > 127 else bytes([size])
        packets.append(b"\x0a" + length + bytes(size))
    return b"".join(packets)


CONTENTS = {
    "ort.json": (json.dumps(ORT).encode(), "chrome"),
    "torch.json.gz": (gzip.compress(json.dumps({"schemaVersion": 1, "traceEvents": ORT}).encode()), "chrome"),
    "app.pftrace": (perfetto(3, 200, 5, 9, 4), "perfetto"),
    "renamed.bin": (perfetto(12, 7), "perfetto"),
    "broken.pftrace": (b"\x0a\xff\x07" + bytes(3), "unknown"),
    "gpu.nsys-rep": (b"\x00\x01 whatever Nsight writes", "nsys"),
    "phone.perf": (b"SIMPLEPERF\0\0\0\1\0", "simpleperf"),
    "perf.data": (b"PERFILE2" + bytes(64), "perf"),
    "layers.json": (
        b'[ { "count" : 9 }, { "name" : "conv", "timeMs" : 9, "averageMs" : 1, "percentage" : 90 } ]',
        "trtexec",
    ),
    "notes.txt": (b"hello", "unknown"),
    "settings.json": (b'{"a": 1}', "unknown"),
    "empty": (b"", "unknown"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_kinds(name: str, tmp_path: Path) -> None:
    data, kind = CONTENTS[name]
    (tmp_path / name).write_bytes(data)
    assert kind_of(tmp_path / name) == kind
    assert TITLES[kind]
    assert HOW_TO_OPEN[kind]


def test_kernels_of_an_onnx_runtime_profile(tmp_path: Path) -> None:
    for name in ("ort.json", "torch.json.gz"):
        (tmp_path / name).write_bytes(CONTENTS[name][0])
        found = summarise(tmp_path / name, "chrome")
        assert [(k.name, k.calls, k.milliseconds) for k in found.kernels] == [("conv", 2, 0.75), ("<gemm>", 1, 0.25)]
        assert found.kernels[0].share == 0.75
        assert found.note == "2 kernels, 1 ms together"


def test_kernels_of_other_tools(tmp_path: Path) -> None:
    assert kind_of(nsys(tmp_path / "gpu.sqlite")) == "nsys-sqlite"
    found = summarise(tmp_path / "gpu.sqlite", "nsys-sqlite")
    assert [(k.name, k.calls, k.milliseconds) for k in found.kernels] == [
        ("sm80_xmma_fprop", 2, 4.0),
        ("poolingForward", 1, 1.0),
    ]
    events = [{"ph": "X", "name": "tflite op", "ts": 1, "dur": 20}, {"ph": "B", "name": "open"}, 3]
    (tmp_path / "litert.json").write_text(json.dumps({"traceEvents": events}))
    assert summarise(tmp_path / "litert.json", "chrome").kernels[0].name == "tflite op"
    (tmp_path / "layers.json").write_bytes(CONTENTS["layers.json"][0])
    assert summarise(tmp_path / "layers.json", "trtexec").kernels[0].milliseconds == 1.0


@pytest.mark.parametrize(
    ("name", "data", "note"),
    [
        ("cut.json", b'[{"ph": "X", "ts": 1, "name"', "cannot be summarised"),
        ("odd.json", b'[{"ph": "X", "ts": 1, "dur": {}}]', "cannot be summarised"),
        ("none.json", b'{"traceEvents": []}', "no kernels in it"),
        ("cut.json.gz", gzip.compress(json.dumps(ORT).encode())[:-20], "cannot be summarised"),
        ("fake.sqlite", b"SQLite format 3\0" + bytes(200), "cannot be summarised"),
    ],
)
def test_a_damaged_trace_gives_a_note_and_no_error(name: str, data: bytes, note: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    kind = "nsys-sqlite" if name.endswith("sqlite") else "chrome"
    found = summarise(tmp_path / name, kind)
    assert found.kernels == ()
    assert note in found.note


def test_an_export_without_kernels_or_with_a_trick_is_not_followed(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "views.sqlite") as database:
        database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
        database.execute(
            "CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT i AS start, i AS end, i AS shortName FROM n"
        )
    database.close()
    before = (tmp_path / "views.sqlite").read_bytes()
    assert summarise(tmp_path / "views.sqlite", "nsys-sqlite").note == "no kernels in it"
    assert (tmp_path / "views.sqlite").read_bytes() == before


@pytest.fixture
def output(keywords: Study, tmp_path: Path) -> Path:
    folder = tmp_path / "edgewright-out"
    write_report(keywords, NoEvidence(), folder)
    (folder / "study.json").write_bytes(encode_json(keywords))
    return folder


def test_attached_traces_are_copied_listed_and_stay_when_the_report_is_written_again(
    output: Path, keywords: Study, tmp_path: Path
) -> None:
    untouched = (output / "report.html").read_text()
    (tmp_path / "<b>ort.json").write_bytes(CONTENTS["ort.json"][0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "gpu.sqlite").write_bytes(nsys(tmp_path / "gpu.sqlite").read_bytes())
    found = attach(output, [tmp_path / "<b>ort.json", tmp_path / "gpu.sqlite", tmp_path / "other" / "gpu.sqlite"])
    assert [each.name for each in found] == ["_b_ort.json", "gpu.sqlite"], "the same content once"
    assert (output / "traces" / "gpu.sqlite").read_bytes() == (tmp_path / "gpu.sqlite").read_bytes()
    page = (output / "report.html").read_text()
    assert 'href="traces/gpu.sqlite" download' in page
    assert "sm80_xmma_fprop" in page
    assert "<gemm>" not in page
    assert "&lt;gemm&gt;" in page
    assert page.count('<section id="traces"') == 1
    write_report(keywords, NoEvidence(), output)
    assert (output / "report.html").read_text() == page
    (tmp_path / "gpu.sqlite").unlink()
    (tmp_path / "gpu.sqlite").write_bytes(b"another")
    names = [each.name for each in attach(output, [tmp_path / "gpu.sqlite"])]
    assert names == ["_b_ort.json", "gpu.sqlite", "gpu-2.sqlite"]
    assert (output / "report.html").read_text().count('<section id="traces"') == 1
    shutil.rmtree(output / "traces")
    write_report(keywords, NoEvidence(), output)
    assert (output / "report.html").read_text() == untouched
    assert not list(output.glob(".copying*"))


def test_a_report_from_before_takes_traces_too(output: Path, tmp_path: Path) -> None:
    page = (output / "report.html").read_text().replace("<!-- traces --><!-- end of traces -->\n", "")
    assert "<!-- traces -->" not in page
    (output / "report.html").write_text(page)
    (tmp_path / "notes.txt").write_bytes(b"hello")
    attach(output, [tmp_path / "notes.txt"])
    written = (output / "report.html").read_text()
    assert written.index('<section id="traces"') < written.index('<section id="environment"')


def test_a_page_of_measured_devices_takes_traces_too(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(devices_html([]))
    (tmp_path / "gpu.nsys-rep").write_bytes(b"\0 something")
    [found] = attach(page, [tmp_path / "gpu.nsys-rep"])
    assert found.kind == "nsys"
    assert 'href="traces/gpu.nsys-rep" download' in page.read_text()
    page.write_text("hello")
    with pytest.raises(UsageError, match="no place for traces"):
        attach(page, [tmp_path / "gpu.nsys-rep"])
    assert page.read_text() == "hello"


def test_what_is_refused_leaves_nothing_behind(output: Path, tmp_path: Path) -> None:
    (tmp_path / "long.pftrace").write_bytes(bytes(2 << 20))
    with pytest.raises(UsageError, match=r"2\.1 MB, at most"):
        attach(output, [tmp_path / "long.pftrace"], largest=1 << 20)
    with pytest.raises(UsageError, match="is no file"):
        attach(output, [tmp_path / "missing"])
    with pytest.raises(UsageError, match=r"there is no report .*report\.html"):
        attach(tmp_path, [tmp_path / "long.pftrace"])
    assert attached(output) == ()
    assert not (output / "traces").exists()
    (output / "traces").mkdir()
    (output / "traces" / "traces.json").write_text("{")
    with pytest.raises(Corrupt, match=r"traces\.json"):
        attached(output)


def test_our_profile_as_a_chrome_trace() -> None:
    operators = (OperatorTime("conv1", "Conv", 120.5), OperatorTime("", "Softmax", 3.25))
    placement = (NodePlacement("conv1", "Conv", "CPU", "int8"),)
    document: Any = json.loads(chrome_trace({"INT8 <u8s8>": operators}, {"INT8 <u8s8>": placement}))
    events = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert [(e["name"], e["cat"], e["ts"], e["dur"]) for e in events] == [
        ("conv1", "Conv", 0.0, 120.5),
        ("Softmax", "Softmax", 120.5, 3.25),
    ]
    assert events[0]["args"] == {"operator": "Conv", "runs on": "CPU", "precision": "int8"}
    names = [e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"]
    assert names == ["INT8 <u8s8>"]


def test_the_exported_profile_is_a_trace_that_is_read_back(output: Path, keywords: Study, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(export(output))
    assert kind_of(path) == "chrome"
    total = sum(time.microseconds for time in keywords.reference.operators)
    one = json.loads(export(output, keywords.reference.id))
    assert sum(e["dur"] for e in one["traceEvents"] if e["ph"] == "X") == pytest.approx(total, rel=1e-6)
    assert summarise(path, "chrome").kernels
    with pytest.raises(UsageError, match="no candidate"):
        export(output, "nobody")
    with pytest.raises(UsageError, match=r"holds no study\.json"):
        export(tmp_path)
