"""Writes a TensorFlow Lite file (schema version 3) through the schema classes inside `ai-edge-litert`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import StepFailed, ToolchainMissing
from edgewright.targets._tflite.runtime_version import ENTRY as LEAST_RUNTIME
from edgewright.targets._tflite.runtime_version import least_runtime_entry

_TYPES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "float64": "FLOAT64",
    "int8": "INT8",
    "uint8": "UINT8",
    "int16": "INT16",
    "uint16": "UINT16",
    "int32": "INT32",
    "uint32": "UINT32",
    "int64": "INT64",
    "bool": "BOOL",
    "int4": "INT4",
}
_ALIGNMENT = 16
_DESCRIPTION = "edgewright"


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = scale x (integer - zero point).

    Attributes:
        scale: One, or one per index of `axis`.
        zero_point: As many as scales.
        axis: The quantised axis; None for per-tensor.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the file being written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    quantisation: Quantisation | None
    constant: bool


def schema() -> Any:
    """Returns the module of schema classes.

    Raises:
        ToolchainMissing: LiteRT or flatbuffers is not installed.
    """
    try:
        import flatbuffers  # noqa: F401
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ToolchainMissing(
            "writing TensorFlow Lite files needs ai-edge-litert and flatbuffers",
            hint='pip install "edgewright[tflite]"',
        ) from error
    return schema_py_generated


class TfliteFile:
    """Collects tensors and operators of one graph; constants of equal content are stored once."""

    def __init__(self) -> None:
        self.schema = schema()
        self.tensors: list[Tensor] = []
        self.operators: list[Any] = []
        self._stored: list[Any] = []
        self._buffers: list[NDArray[np.uint8] | None] = [None]
        self._digests: dict[bytes, int] = {}
        self._codes: dict[tuple[str, str], int] = {}
        self._versions: dict[int, int] = {}
        self._names: set[str] = set()
        self.metadata: dict[str, bytes] = {}

    def tensor(
        self,
        name: str,
        dtype: str,
        shape: Sequence[int],
        *,
        data: NDArray[Any] | None = None,
        quantisation: Quantisation | None = None,
    ) -> int:
        """Adds a tensor and returns its number.

        Args:
            name: Made unique.
            dtype: NumPy's name.
            shape: Sizes.
            data: Value of a constant.
            quantisation: Of integers that stand for real numbers.

        Raises:
            StepFailed: The format has no such type.
        """
        if dtype not in _TYPES:
            raise StepFailed(
                f'tensor "{name}" is {dtype}, which TensorFlow Lite has no type for', hint="cast it to float32 or int32"
            )
        unique = self._unique(name)
        made = self.schema.TensorT()
        made.name, made.shape = unique, [int(size) for size in shape]
        made.type = getattr(self.schema.TensorType, _TYPES[dtype])
        made.hasRank = True
        made.buffer = 0 if data is None else self._buffer(data)
        if quantisation is not None:
            made.quantization = self._parameters(quantisation)
        self._stored.append(made)
        self.tensors.append(Tensor(unique, dtype, tuple(map(int, shape)), quantisation, data is not None))
        return len(self._stored) - 1

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        *,
        version: int = 1,
        **fields: Any,
    ) -> int:
        """Adds an operator and returns its number.

        Args:
            op: Name in the schema, e.g. `CONV_2D`; `CUSTOM name` for a custom one.
            inputs: Tensor numbers, -1 for an optional one left out.
            outputs: Tensor numbers.
            options: Table of options in the schema, e.g. `Conv2DOptions`; empty for none.
            version: Of the operator, at least the one that knows its types and options.
            fields: Of the options.
        """
        made = self.schema.OperatorT()
        made.opcodeIndex = self._code(op, version)
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options:
            self._set_options(made, options, fields)
        self.operators.append(made)
        return len(self.operators) - 1

    def array(self, number: int) -> NDArray[Any]:
        """Returns the content of a constant."""
        known, content = self.tensors[number], self._buffers[self._stored[number].buffer]
        if content is None:
            raise TypeError(f'tensor "{known.name}" is no constant')
        found: NDArray[Any] = content.view(known.dtype).reshape(known.shape)
        return found

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """Returns the file.

        Args:
            inputs: Name for callers -> tensor, in order.
            outputs: Likewise.
        """
        import flatbuffers

        inputs, outputs = self._drop_unused(inputs, outputs)
        model = self.schema.ModelT()
        model.version, model.description = 3, _DESCRIPTION
        model.operatorCodes = self._operator_codes()
        graph = self.schema.SubGraphT()
        graph.name = "main"
        graph.tensors, graph.operators = self._stored, self.operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model.subgraphs = [graph]
        model.signatureDefs = [self._signature(inputs, outputs)]
        entries = {**self.metadata, LEAST_RUNTIME: least_runtime_entry(self._codes_and_versions())}
        model.metadata = [self._metadata(name, content) for name, content in entries.items()]
        model.buffers = [_AlignedBuffer(self.schema, content) for content in self._buffers]
        size = sum(0 if content is None else content.size + 64 for content in self._buffers)
        self._buffers = []
        builder = flatbuffers.Builder(size + 512 * (len(self._stored) + len(self.operators)) + 4096)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(memoryview(builder.Bytes)[builder.head :])

    def _drop_unused(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Leaves tensors out that no operator names, and their content; returns the new numbers of the borders."""
        named = {*inputs.values(), *outputs.values()}
        for operator in self.operators:
            named.update(n for n in (*operator.inputs, *operator.outputs) if n >= 0)
        moved = {number: place for place, number in enumerate(sorted(named))} | {-1: -1}
        for operator in self.operators:
            operator.inputs, operator.outputs = (
                [moved[n] for n in side] for side in (operator.inputs, operator.outputs)
            )
        self.tensors, self._stored = ([side[n] for n in sorted(named)] for side in (self.tensors, self._stored))
        contents = sorted({0, *(made.buffer for made in self._stored)})
        places = {number: place for place, number in enumerate(contents)}
        self._buffers = [self._buffers[n] for n in contents]
        for made in self._stored:
            made.buffer = places[made.buffer]
        return {name: moved[n] for name, n in inputs.items()}, {name: moved[n] for name, n in outputs.items()}

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            unique, count = f"{name}_{count}", count + 1
        self._names.add(unique)
        return unique

    def _buffer(self, data: NDArray[Any]) -> int:
        content = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        key = hashlib.sha256(content.data).digest()
        if key not in self._digests:
            self._buffers.append(content)
            self._digests[key] = len(self._buffers) - 1
        return self._digests[key]

    def _parameters(self, quantisation: Quantisation) -> Any:
        made = self.schema.QuantizationParametersT()
        made.scale = np.asarray(quantisation.scale, np.float32)
        made.zeroPoint = np.asarray(quantisation.zero_point, np.int64)
        made.quantizedDimension = quantisation.axis or 0
        return made

    def _code(self, op: str, version: int) -> int:
        builtin, _, custom = op.partition(" ")
        number = self._codes.setdefault((builtin, custom), len(self._codes))
        self._versions[number] = max(version, self._versions.get(number, 1))
        return number

    def _codes_and_versions(self) -> list[tuple[str, int]]:
        return [(builtin, self._versions[number]) for (builtin, _), number in self._codes.items()]

    def _operator_codes(self) -> list[Any]:
        made = []
        for (builtin, custom), number in self._codes.items():
            code = self.schema.OperatorCodeT()
            code.builtinCode = getattr(self.schema.BuiltinOperator, builtin)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.customCode = custom or None
            code.version = self._versions[number]
            made.append(code)
        return made

    def _set_options(self, operator: Any, name: str, fields: Mapping[str, Any]) -> None:
        table = getattr(self.schema, f"{name}T")()
        for field, value in fields.items():
            if not hasattr(table, field):
                raise TypeError(f"{name} has no field {field}")
            setattr(table, field, value)
        if hasattr(self.schema.BuiltinOptions, name):
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, name)
            operator.builtinOptions = table
        else:
            operator.builtinOptions2Type = getattr(self.schema.BuiltinOptions2, name)
            operator.builtinOptions2 = table

    def _signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = "serving_default", 0
        made.inputs, made.outputs = self._tensor_map(inputs), self._tensor_map(outputs)
        return made

    def _tensor_map(self, tensors: Mapping[str, int]) -> list[Any]:
        made = []
        for name, number in tensors.items():
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, number
            made.append(entry)
        return made

    def _metadata(self, name: str, content: bytes) -> Any:
        made = self.schema.MetadataT()
        made.name = name
        self._buffers.append(np.frombuffer(content, np.uint8))
        made.buffer = len(self._buffers) - 1
        return made


@dataclass(slots=True, eq=False)
class _AlignedBuffer:
    """A Buffer table whose bytes begin at a multiple of 16, as the schema asks; the Python classes align to 4 only."""

    schema: Any
    content: NDArray[np.uint8] | None

    def Pack(self, builder: Any) -> int:  # noqa: N802 - called by the schema's own classes
        vector = None
        if self.content is not None:
            size = self.content.size
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head = builder.head - size
            builder.Bytes[builder.head : builder.head + size] = self.content.data
            self.content = None  # weights leave memory as they are written
            vector = builder.EndVector()
        self.schema.BufferStart(builder)
        if vector is not None:
            self.schema.BufferAddData(builder, vector)
        return int(self.schema.BufferEnd(builder))
