"""Our reader on good, damaged and hostile files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.errors import Corrupt, EdgewrightError, SourceError
from edgewright.formats.tflite.reader import parse, read_tflite


@pytest.fixture(scope="session")
def content(build_tflite: Any, tensor: Any) -> bytes:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = 1
    weights = np.arange(-6, 6, dtype=np.int8).reshape(3, 4)
    tensors = [
        tensor((1, 4), signature=(-1, 4)),
        tensor((3, 4), weights, "int8", (0.5,)),
        tensor((3,), np.float32([1, 2, 3])),
        tensor((1, 3)),
    ]
    built: bytes = build_tflite(tensors, [("FULLY_CONNECTED", [0, 1, 2], [3], options)], [0], [3])
    return built


def test_reads_what_the_schema_writes(content: bytes) -> None:
    graph = parse(content)
    assert graph.inputs == (0,)
    assert graph.outputs == (3,)
    assert [t.name for t in graph.tensors] == ["t0", "t1", "t2", "t3"]
    assert graph.tensors[0].dynamic == (True, False)
    assert graph.tensors[1].scale == (0.5,)
    np.testing.assert_array_equal(graph.tensors[1].real(), np.arange(-6, 6).reshape(3, 4) * 0.5)
    operator = graph.operators[0]
    assert (operator.op, operator.inputs, operator.outputs) == ("FULLY_CONNECTED", (0, 1, 2), (3,))
    assert operator.options["activation"] == 1


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x08\x00\x00\x00TFL3", b"\xff\xff\xff\x7fTFL3", b"<html>not a model"])
def test_other_formats_and_stubs_are_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        parse(data)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.tflite"):
        read_tflite(tmp_path / "absent.tflite")


def test_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Corrupt, match=r"cut\.tflite"):
        read_tflite(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_escapes_as_another_error(content: bytes, data: st.DataObject) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(damaged)))
    for broken in (bytes(damaged), bytes(damaged[:kept])):
        with contextlib.suppress(EdgewrightError):
            parse(broken)


def test_constant_of_the_wrong_size_is_corrupt(build_tflite: Any, tensor: Any) -> None:
    tensors = [tensor((1, 4)), tensor((1, 4), np.zeros(3, np.float32)), tensor((1, 4))]
    with pytest.raises(Corrupt, match='tensor "t1"'):
        parse(build_tflite(tensors, [("ADD", [0, 1], [2], None)], [0], [2]))
