"""TensorFlow Lite files in their own interpreter, as the reference of an import."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import SourceError, ToolchainMissing

if TYPE_CHECKING:
    from edgewright.sources._verify import Evaluate


def interpreter_evaluator(content: bytes, outputs: list[str], *, real: bool = True) -> Evaluate:
    """Opens a TensorFlow Lite file in LiteRT.

    Args:
        content: The file.
        outputs: Names to give its outputs, in the file's order.
        real: Where the file takes or gives scaled integers, the evaluator takes and gives the floats they stand for,
            rounded as QuantizeLinear does; otherwise the integers.

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
            interpreter.set_tensor(detail["index"], _stored(value, detail) if real else value)
        interpreter.reset_all_variables()
        interpreter.invoke()
        found = {n: (d, np.array(interpreter.get_tensor(d["index"]))) for n, d in zip(outputs, gives, strict=True)}
        return {name: _real(value, detail) if real else value for name, (detail, value) in found.items()}

    return evaluate


def _parameters(detail: Mapping[str, Any]) -> tuple[np.float32, int] | None:
    """Returns scale and zero point of a tensor of scaled integers."""
    found = detail["quantization_parameters"]
    if np.dtype(detail["dtype"]).kind not in "iu" or not len(found["scales"]):
        return None
    return np.float32(found["scales"][0]), int(found["zero_points"][0])


def _stored(value: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    parameters = _parameters(detail)
    if parameters is None:
        return value
    limits = np.iinfo(detail["dtype"])
    scaled = np.rint(value.astype(np.float32) / parameters[0]) + parameters[1]
    return np.asarray(np.clip(scaled, limits.min, limits.max), detail["dtype"])


def _real(value: NDArray[Any], detail: Mapping[str, Any]) -> NDArray[Any]:
    parameters = _parameters(detail)
    if parameters is None:
        return value
    return np.asarray((value.astype(np.int64) - parameters[1]).astype(np.float32) * parameters[0])


def with_float_weights(content: bytes) -> bytes:
    """Returns the same file with the integer weights of float operators replaced by the float32 values they stand for.

    LiteRT runs int8 weights with activations quantised on the fly, which is no reference for the weights themselves.
    """
    from edgewright.formats.tflite.convert import hybrid_weights
    from edgewright.formats.tflite.reader import parse

    graph = parse(content)
    hybrid = hybrid_weights(graph)

    def change(model: Any, schema: Any) -> None:
        for number, (read, stored) in enumerate(zip(graph.tensors, model.subgraphs[0].tensors, strict=True)):
            if number in hybrid:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(np.ascontiguousarray(read.real()).tobytes(), np.uint8)
                model.buffers.append(buffer)
                stored.buffer = len(model.buffers) - 1
                stored.type = schema.TensorType.FLOAT32
                stored.quantization = None

    return _rewritten(content, change)


def with_outputs(content: bytes, outputs: Sequence[int]) -> bytes:
    """Returns the same file ending at the tensors numbered `outputs`, without the operators behind them."""
    from edgewright.formats.tflite.cutting import needed
    from edgewright.formats.tflite.reader import parse

    kept = needed(parse(content), outputs)

    def change(model: Any, schema: Any) -> None:
        graph = model.subgraphs[0]
        graph.operators = [graph.operators[index] for index in kept]
        graph.outputs = list(outputs)
        model.signatureDefs = None

    return _rewritten(content, change)


def _rewritten(content: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """Returns the file after `change`, which is given its model and the schema's classes."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model, schema)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
