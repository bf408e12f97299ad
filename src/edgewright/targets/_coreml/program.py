"""Reads a written package back: its operations, its border and its constants, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import Corrupt
from edgewright.targets._coreml.blob import Blob, Stored, unpacked
from edgewright.targets._coreml.package import SPECIFICATION, WEIGHTS

_TYPES = dict(
    zip(
        (1, 2, 10, 11, 12, 21, 22, 23, 24, 25, 31, 32, 33, 34, 35, 36, 37, 38, 39),
        (
            *("bool", "str", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "int4"),
            *("uint8", "uint16", "uint32", "uint64", "uint4", "uint2", "uint1", "uint6", "uint3"),
        ),
        strict=True,
    )
)
"""Number of `MILSpec.DataType` -> name."""
_NARROW = {"int4": 4, "uint4": 4, "uint2": 2, "uint1": 1, "uint6": 6, "uint3": 3}
_FIELDS = ("floats", "ints", "bools", "strings", "longInts", "doubles")


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that stands in the program.

    Attributes:
        value: An array of its type, or a string, or a list of them.
        dtype: MIL's name of the type.
        bits: Per element as stored.
        size: Bytes in the file of weights; 0 for one inside the program.
    """

    value: Any
    dtype: str
    bits: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        name: Its own.
        op: MIL's name of the operator.
        inputs: Parameter -> names of the values it reads, or constants that stand in their place.
        outputs: Name, type and shape of each result.
    """

    name: str
    op: str
    inputs: Mapping[str, tuple[str | Constant, ...]]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """An ML program as it stands in the package.

    Attributes:
        operations: In order.
        inputs: Name, type and shape of each.
        outputs: Names.
        description: The model's description, coremltools' protocol buffer.
    """

    operations: tuple[Operation, ...]
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[str, ...]
    description: Any


def read_program(out: Path) -> Program:
    """Reads the package in the artifact folder `out`; coremltools must have been imported.

    Raises:
        Corrupt: It is no ML program.
    """
    from coremltools.proto import Model_pb2

    file = out / SPECIFICATION
    specification = Model_pb2.Model()
    try:
        specification.ParseFromString(file.read_bytes())
    except Exception as error:  # google.protobuf's DecodeError
        raise Corrupt(f"{file}: no Core ML specification: {error}", hint="compile the model again") from error
    functions = specification.mlProgram.functions
    if "main" not in functions:
        raise Corrupt(f"{file}: no ML program with a function main", hint="compile the model again")
    main = functions["main"]
    block = next(iter(main.block_specializations.values()))
    reader = _Reader(out / WEIGHTS)
    return Program(
        tuple(reader.operation(given) for given in block.operations),
        tuple(_named(value) for value in main.inputs),
        tuple(block.outputs),
        specification.description,
    )


class _Reader:
    def __init__(self, weights: Path) -> None:
        self._blob = Blob(weights) if weights.is_file() else None

    def operation(self, given: Any) -> Operation:
        attributes = {key: self._constant(value) for key, value in given.attributes.items()}
        name = attributes.pop("name", Constant("", "str")).value
        inputs: dict[str, tuple[str | Constant, ...]] = {
            key: tuple(b.name if b.WhichOneof("binding") == "name" else self._constant(b.value) for b in v.arguments)
            for key, v in given.inputs.items()
        }
        inputs.update({key: (value,) for key, value in attributes.items()})
        return Operation(str(name), given.type, inputs, tuple(_named(value) for value in given.outputs))

    def _constant(self, value: Any) -> Constant:
        kind = value.type.WhichOneof("type")
        if kind != "tensorType":
            return Constant(None, str(kind))
        dtype = _TYPES.get(value.type.tensorType.dataType, "")
        shape = _shape(value.type.tensorType)
        if value.WhichOneof("value") == "blobFileValue":
            if self._blob is None:
                raise Corrupt("the program reads weights, the package has none", hint="compile the model again")
            stored = self._blob.read(value.blobFileValue.offset)
            return Constant(_shaped(stored, shape), dtype, stored.bits, stored.size)
        return Constant(_immediate(value.immediateValue.tensor, dtype, shape), dtype)


def _shaped(stored: Stored, shape: tuple[int, ...]) -> NDArray[Any]:
    return stored.values[: math.prod(shape)].reshape(shape)


def _immediate(tensor: Any, dtype: str, shape: tuple[int, ...]) -> Any:
    field = tensor.WhichOneof("value")
    if field == "bytes":
        raw = np.frombuffer(tensor.bytes.values, np.uint8)
        if dtype in _NARROW:
            return unpacked(raw, _NARROW[dtype], math.prod(shape)).reshape(shape)
        return raw.view(dtype).reshape(shape)
    values = list(getattr(tensor, field).values) if field in _FIELDS else []
    if dtype == "str":
        return values[0] if not shape and values else values
    return np.array(values, dtype).reshape(shape)


def _named(value: Any) -> tuple[str, str, tuple[int, ...]]:
    tensor = value.type.tensorType
    return value.name, _TYPES.get(tensor.dataType, ""), _shape(tensor)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(d.constant.size) for d in tensor.dimensions)
