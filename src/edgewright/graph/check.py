"""A model on disk, checked: the ONNX checker, then strict shape inference."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from edgewright.errors import SourceError
from edgewright.graph.load import load, load_proto, model_file, save
from edgewright.graph.shapes import infer_shapes


def check_file(path: Path) -> None:
    """Checks the ONNX file or hub folder at `path`, its external data included.

    Operators outside the standard domains are checked for form only; their shapes stay unknown. Outputs without a
    declared shape, which runtimes take but the checker does not, are inferred first.

    Raises:
        SourceError: No such file, or the checker or shape inference refused it; the message is theirs.
        Corrupt: The file is damaged.
    """
    path = model_file(path)
    proto = load_proto(path)
    _check_operators(proto, path)
    if all(output.type.tensor_type.HasField("shape") for output in proto.graph.output):
        _check(path, path)
        return
    with tempfile.TemporaryDirectory(prefix="edgewright-check-") as folder:
        _check(save(infer_shapes(load(path)), Path(folder)), path)


def _check(path: Path, shown: Path) -> None:
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"{shown}: not a valid ONNX model: {text[:600]}",
            hint="export the model again with a current exporter; the operator named above is where to look",
        ) from error


def _check_operators(proto: onnx.ModelProto, path: Path) -> None:
    local = {function.name for function in proto.functions}
    for node in proto.graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type not in local and not onnx.defs.has(node.op_type):
            raise SourceError(
                f'{path}: node "{node.name}" (writes "{", ".join(node.output)}"): ONNX has no operator {node.op_type}',
                hint="export the model again with standard operators, or with the domain of the custom operator",
            )
