"""A TensorFlow Lite file as plain values.

Source: the schema of TensorFlow Lite, version 3 (tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import Corrupt, SourceError
from edgewright.formats.tflite.flat import Table, damaged, root
from edgewright.formats.tflite.names import DTYPES, OPERATORS
from edgewright.formats.tflite.options import read_options
from edgewright.formats.tflite.parameters import SCALED, read_parameters

IDENTIFIER = b"TFL3"
MAX_BYTES = 2 << 30


@dataclass(frozen=True, slots=True, eq=False)
class TfliteTensor:
    """One tensor.

    Attributes:
        name: In the file.
        dtype: NumPy's name, `int4` (stored as int8 here), or `type N` for one that NumPy has no word for.
        shape: As stored; dynamic axes hold 1.
        dynamic: Which axes the file declares dynamic.
        data: The value of a constant; None for an activation.
        scale: Quantisation scales; empty for a float tensor.
        zero_point: As many as scales.
        axis: The quantised axis.
        variable: Keeps its value between runs.
        sparse: Stored sparsely.
        details: Number of a method of quantisation other than scales and zero points, 0 for those.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dynamic: tuple[bool, ...]
    data: NDArray[Any] | None
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False
    sparse: bool = False
    details: int = 0

    @property
    def scaled(self) -> bool:
        """Whether its integers stand for real values."""
        return bool(self.scale) and self.dtype in SCALED

    def real(self) -> NDArray[Any]:
        """Returns the value of a constant, integers with a scale turned into float32: scale x (q - zero point)."""
        if self.data is None:
            raise SourceError(
                f'tensor "{self.name}" is not constant', hint="convert the model with constant parameters"
            )
        if self.dtype == "float16":
            return self.data.astype(np.float32)
        if not self.scale or self.dtype in ("float32", "int64"):
            return self.data
        lanes = [1] * self.data.ndim
        if len(self.scale) > 1:
            lanes[self.axis] = len(self.scale)
        scale = np.asarray(self.scale, np.float32).reshape(lanes)
        zero = np.asarray(self.zero_point or (0,) * len(self.scale), np.int64).reshape(lanes)
        return ((self.data.astype(np.int64) - zero).astype(np.float32) * scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TfliteOperator:
    """One operator: `inputs` and `outputs` are tensor numbers, -1 for an optional input left out."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TfliteGraph:
    """The main graph of a file, operators in the order they run."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: Path) -> TfliteGraph:
    """Reads the main graph of a TensorFlow Lite file.

    Raises:
        SourceError: No such file, or too large.
        Corrupt: Another format, truncated, or inconsistent.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError(f"{path}: more than 2 GiB", hint="a TensorFlow Lite file ends there; check the path")
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", hint="check the path and its permissions") from error
    try:
        return parse(data)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error.message}", hint=error.hint) from error


def parse(data: bytes) -> TfliteGraph:
    """Reads the main graph from the bytes of a file.

    Raises:
        Corrupt: Another format, truncated, or inconsistent.
    """
    model = root(data, IDENTIFIER)
    codes = [_operator_name(code) for code in model.tables(1)]
    graphs, buffers = model.tables(2), model.tables(4)
    if not graphs:
        raise Corrupt("a TensorFlow Lite file without a graph", hint="convert the model again")
    tensors = tuple(_tensor(table, buffers, data) for table in graphs[0].tables(0))
    operators = tuple(_operator(table, codes, len(tensors)) for table in graphs[0].tables(3))
    inputs, outputs = (_numbers(graphs[0], field, len(tensors)) for field in (1, 2))
    return TfliteGraph(tensors, operators, inputs, outputs)


def _operator_name(table: Table) -> str:
    code = max(table.scalar(0, "b"), table.scalar(3, "i"))
    name = OPERATORS[code] if 0 <= code < len(OPERATORS) else f"operator {code}"
    return f"CUSTOM {table.text(1)}" if name == "CUSTOM" else name


def _operator(table: Table, codes: Sequence[str], tensors: int) -> TfliteOperator:
    code = table.scalar(0, "I")
    if code >= len(codes):
        raise damaged(f"operator code {code}")
    inputs, outputs = (_numbers(table, field, tensors) for field in (1, 2))
    return TfliteOperator(codes[code], inputs, outputs, read_options(codes[code], table.table(4)))


def _numbers(table: Table, field: int, limit: int) -> tuple[int, ...]:
    found = table.array(field, "int32")
    numbers = () if found is None else tuple(int(n) for n in found)
    if any(not -1 <= n < limit for n in numbers):
        raise damaged(f"a tensor number in {numbers}")
    return numbers


def _tensor(table: Table, buffers: Sequence[Table], data: bytes) -> TfliteTensor:
    sizes, signature = table.array(0, "int32"), table.array(7, "int32")
    shape = () if sizes is None else tuple(int(n) for n in sizes)
    dynamic = tuple(int(n) < 0 for n in signature) if signature is not None else (False,) * len(shape)
    code = table.scalar(1, "b")
    dtype = DTYPES.get(code, f"type {code}")
    name = table.text(3)
    parameters = read_parameters(table.table(4), name, dtype, shape)
    return TfliteTensor(
        name,
        dtype,
        shape,
        dynamic if len(dynamic) == len(shape) else (False,) * len(shape),
        _constant(table.scalar(2, "I"), buffers, data, name, dtype, shape),
        parameters.scale,
        parameters.zero_point,
        parameters.axis,
        bool(table.scalar(5, "?")),
        table.table(6) is not None,
        parameters.details,
    )


def _constant(
    number: int, buffers: Sequence[Table], data: bytes, name: str, dtype: str, shape: tuple[int, ...]
) -> NDArray[Any] | None:
    if number == 0:
        return None
    if number >= len(buffers):
        raise damaged(f'the buffer of tensor "{name}"')
    offset, size = buffers[number].scalar(1, "Q"), buffers[number].scalar(2, "Q")
    if offset > 1:  # larger files keep their weights behind the tables
        if offset + size > len(data):
            raise damaged(f'the value of tensor "{name}"')
        content = np.frombuffer(data, np.uint8, size, offset)
    else:
        found = buffers[number].array(0, "uint8")
        if found is None or not found.size:
            return None
        content = found
    if dtype.startswith("type "):
        return content
    if dtype == "int4":
        return _nibbles(content, name, shape)
    kind = np.dtype(dtype).newbyteorder("<")
    _check_size(math.prod(shape) * kind.itemsize, content, name, dtype, shape)
    return np.frombuffer(content.tobytes(), kind).reshape(shape).astype(np.dtype(dtype))


def _nibbles(content: NDArray[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns 4-bit integers as int8; two per byte, the low half first."""
    count = math.prod(shape)
    _check_size((count + 1) // 2, content, name, "int4", shape)
    halves = np.stack([content & 0xF, content >> 4], axis=-1).reshape(-1)[:count].astype(np.int8)
    return np.where(halves > 7, halves - 16, halves).astype(np.int8).reshape(shape)


def _check_size(expected: int, content: NDArray[Any], name: str, dtype: str, shape: tuple[int, ...]) -> None:
    if min(shape, default=1) < 0 or expected != content.size:
        raise Corrupt(
            f'tensor "{name}": {dtype}{list(shape)} does not fit the {content.size} bytes stored',
            hint="the file is damaged, or stores this tensor sparsely; convert it again",
        )
