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
from edgewright.formats.tflite.convert import to_onnx
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


@pytest.fixture(scope="session")
def layers(build_tflite: Any, tensor: Any) -> bytes:
    """A quantised convolution, a reshape, a slice and a concatenation."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    conv, piece, joined = schema.Conv2DOptionsT(), schema.StridedSliceOptionsT(), schema.ConcatenationOptionsT()
    conv.strideH = conv.strideW = conv.dilationHFactor = conv.dilationWFactor = 1
    joined.axis = 1
    grid = {"dtype": "int8", "scale": (0.5,), "zero": (3,)}
    tensors = [
        tensor((1, 4, 4, 2), **grid),
        tensor((3, 1, 1, 2), np.arange(6), "int8", (0.1, 0.2, 0.3), (0, 0, 0)),
        tensor((3,), [1, 2, 3], "int32", (0.05, 0.1, 0.15), (0, 0, 0)),
        tensor((1, 4, 4, 3), **grid),
        tensor((2,), [1, 48], "int32"),
        tensor((1, 48), **grid),
        tensor((2,), [0, 8], "int32"),
        tensor((2,), [1, 48], "int32"),
        tensor((2,), [1, 2], "int32"),
        tensor((1, 20), **grid),
        tensor((1, 68), **grid),
    ]
    operators = [
        ("CONV_2D", [0, 1, 2], [3], conv),
        ("RESHAPE", [3, 4], [5], None),
        ("STRIDED_SLICE", [5, 6, 7, 8], [9], piece),
        ("CONCATENATION", [5, 9], [10], joined),
    ]
    built: bytes = build_tflite(tensors, operators, [0], [10])
    return built


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_never_escapes_the_translation_as_another_error(layers: bytes, data: st.DataObject) -> None:
    damaged = bytearray(layers)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(EdgewrightError):
        to_onnx(parse(bytes(damaged)))


def test_an_operator_without_its_inputs_is_named(build_tflite: Any, tensor: Any) -> None:
    content = build_tflite(
        [tensor((1, 4)), tensor((1, 4))], [("ADD", [0], [1], None), ("TILE", [0], [1], None)], [0], [1]
    )
    with pytest.raises(Corrupt, match=r'TILE \(writes tensor "t1"\): its inputs, options and shapes do not fit'):
        to_onnx(parse(content))


def test_a_tensor_beyond_all_bounds_is_refused(build_tflite: Any, tensor: Any) -> None:
    huge = tensor((1 << 20, 1 << 20))
    content = build_tflite([huge, huge], [("ABS", [0], [1], None)], [0], [1])
    with pytest.raises(SourceError, match='tensor "t0" is of 1099511627776 elements'):
        to_onnx(parse(content))
