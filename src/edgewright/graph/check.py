"""A saved model, checked: the ONNX checker, then strict shape inference."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgewright.errors import SourceError
from edgewright.graph.load import model_file


def check_file(path: Path) -> None:
    """Checks the ONNX file or hub folder at `path`, its external data included.

    Operators outside the standard domains are checked for form only; their shapes stay unknown.

    Raises:
        SourceError: The checker or shape inference refused it; the message is theirs.
    """
    path = model_file(path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        text = " ".join(str(error).split())
        raise SourceError(
            f"{path}: not a valid ONNX model: {text[:600]}",
            hint="export the model again with a current exporter; the operator named above is where to look",
        ) from error
