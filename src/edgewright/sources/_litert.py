"""TensorFlow Lite files in their own interpreter, as the reference of an import."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import SourceError, ToolchainMissing

if TYPE_CHECKING:
    from edgewright.sources._verify import Evaluate

_INTEGERS = ("int8", "uint8", "int16")


def interpreter_evaluator(content: bytes, outputs: list[str]) -> Evaluate:
    """Opens a TensorFlow Lite file in LiteRT.

    Args:
        content: The file.
        outputs: Names to give its outputs, in the file's order.

    Raises:
        ToolchainMissing: LiteRT is not installed.
        SourceError: It refuses the model.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ToolchainMissing(
            "comparing a TensorFlow Lite file needs ai-edge-litert", hint='pip install "edgewright[tflite]"'
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:400]
        raise SourceError(f"LiteRT does not run this file: {text}", hint="convert the model again") from error
    takes, gives = interpreter.get_input_details(), interpreter.get_output_details()

    def evaluate(feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        for detail, value in zip(takes, feed.values(), strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        return {n: np.array(interpreter.get_tensor(d["index"])) for n, d in zip(outputs, gives, strict=True)}

    return evaluate


def with_float_weights(content: bytes) -> bytes:
    """Returns the same file with every integer weight replaced by the float32 values it stands for.

    LiteRT runs int8 weights with activations quantised on the fly, which is no reference for the weights themselves.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    from edgewright.formats.tflite.reader import parse

    graph = parse(content)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    for read, stored in zip(graph.tensors, model.subgraphs[0].tensors, strict=True):
        if read.data is not None and read.scale and read.dtype in _INTEGERS:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(read.real()).tobytes(), np.uint8)
            model.buffers.append(buffer)
            stored.buffer = len(model.buffers) - 1
            stored.type = schema.TensorType.FLOAT32
            stored.quantization = None
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
