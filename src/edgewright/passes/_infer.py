"""Graph models run by ONNX Runtime while a pass works: statistics and comparisons, never timing."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import ToolchainMissing
from edgewright.graph.load import save
from edgewright.graph.statistics import Infer


def open_infer(model: ir.Model, *, outputs: tuple[str, ...] | None = None) -> Infer:
    """Opens `model`, as it is, on ONNX Runtime's CPU provider.

    Raises:
        ToolchainMissing: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ToolchainMissing(
            "calibration needs ONNX Runtime, which is not installed", hint='pip install "edgewright[onnxruntime]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        path = save(model, Path(folder))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = list(outputs or (o.name for o in session.get_outputs()))

    def infer(feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return infer
