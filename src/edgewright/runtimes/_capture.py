"""What only a runtime itself can tell about a model: its own optimised form."""

from __future__ import annotations

from collections.abc import Mapping
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
