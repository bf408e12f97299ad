"""What only a runtime itself can do with a model: show its optimised form, write its file format."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgewright.errors import StepFailed
from edgewright.runtimes._require import require
from edgewright.runtimes.onnxruntime import add_entries, open_session

_EXTERNAL = "session.optimized_model_external_initializers_file_name"


def fused_by_onnxruntime(file: Path, entries: Mapping[str, str], out: Path) -> Path:
    """Writes the graph that ONNX Runtime runs, before it chooses memory layouts: what it fuses is decided by then.

    Args:
        file: The ONNX file.
        entries: Session options of the artifact.
        out: Folder to write into.

    Raises:
        ToolchainMissing: ONNX Runtime is not installed.
        StepFailed: It cannot load the model.
    """
    ort = require("onnxruntime", "onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(out / "fused.onnx")
    add_entries(options, {**entries, _EXTERNAL: "fused.data"})
    try:
        open_session(ort, file, options, entries)
    except Exception as error:  # its exception classes share no base but Exception
        raise StepFailed(
            f"ONNX Runtime {ort.__version__} cannot load {file.name}: {error}",
            hint="`edgewright inspect` lists the operators it does not take; clean up or re-export the model",
        ) from error
    return out / "fused.onnx"


def litert_taken_apart(content: bytes, numbers: Iterable[int]) -> tuple[bytes, dict[int, str]]:
    """Returns a .tflite file in which what reads one of the tensors `numbers` reads a new input instead.

    Args:
        content: The file.
        numbers: Tensors of its main graph.

    Returns:
        The new file; and number -> name of the input, for tensors that something reads.

    Raises:
        ToolchainMissing: LiteRT or flatbuffers is not installed.
    """
    schema = require("ai_edge_litert.schema_py_generated", "tflite")
    flatbuffers = require("flatbuffers", "tflite")
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    read = {int(n) for op in graph.operators for n in op.inputs}
    inputs, entries = [int(n) for n in graph.inputs], {}
    for number in numbers:
        if number not in read or number in inputs:
            continue
        given = copy.copy(graph.tensors[number])
        entries[number] = f"given {number}"
        given.name, given.buffer = entries[number].encode(), 0
        graph.tensors.append(given)
        for op in graph.operators:
            op.inputs = [len(graph.tensors) - 1 if int(n) == number else int(n) for n in op.inputs]
        inputs.append(len(graph.tensors) - 1)
    graph.inputs, model.signatureDefs = inputs, []
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output()), entries
