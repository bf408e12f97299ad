"""TensorFlow Lite files built in code, with the schema's own classes: an independent writer for our reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest


@dataclass(frozen=True)
class T:
    """A tensor: constant when it has data."""

    shape: tuple[int, ...]
    data: Any = None
    dtype: str = "float32"
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()
    axis: int = 0
    signature: tuple[int, ...] | None = None
    variable: bool = False


TfliteBuilder = Callable[..., bytes]


@pytest.fixture(scope="session")
def tensor() -> type[T]:
    return T


@pytest.fixture(scope="session")
def build_tflite() -> TfliteBuilder:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")

    def make(
        tensors: Sequence[T],
        operators: Sequence[tuple[str, Sequence[int], Sequence[int], Any]],
        inputs: Sequence[int],
        outputs: Sequence[int],
        custom: str | None = None,
    ) -> bytes:
        model = schema.ModelT()
        model.version = 3
        model.buffers = [schema.BufferT()]
        graph = schema.SubGraphT()
        graph.tensors = [stored(model, index, t) for index, t in enumerate(tensors)]
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        graph.operators, model.operatorCodes = [], []
        for name, takes, gives, options in operators:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = {"BROADCAST_TO": 2}.get(name, 1)
            code.customCode = custom
            model.operatorCodes.append(code)
            operator = schema.OperatorT()
            operator.opcodeIndex = len(model.operatorCodes) - 1
            operator.inputs, operator.outputs = list(takes), list(gives)
            if options is not None:
                operator.builtinOptions = options
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            graph.operators.append(operator)
        model.subgraphs = [graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def stored(model: Any, index: int, t: T) -> Any:
        made = schema.TensorT()
        made.name = f"t{index}"
        made.shape = list(t.shape)
        made.shapeSignature = None if t.signature is None else list(t.signature)
        made.type = getattr(schema.TensorType, t.dtype.upper())
        made.buffer = 0
        made.isVariable = t.variable
        if t.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(np.asarray(t.data, t.dtype)).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        if t.scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = list(t.scale)
            made.quantization.zeroPoint = list(t.zero or (0,) * len(t.scale))
            made.quantization.quantizedDimension = t.axis
        return made

    return make
