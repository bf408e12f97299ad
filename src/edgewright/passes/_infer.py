"""Graph models run by ONNX Runtime while a pass works: statistics and comparisons, never timing.

Threads do not spin while they wait: probes make many small operators, and other processes want the cores, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import ToolchainMissing
from edgewright.graph import custom
from edgewright.graph.load import save
from edgewright.graph.statistics import Infer
from edgewright.runtimes._ort_custom import register


def open_infer(
    model: ir.Model,
    *,
    outputs: tuple[str, ...] | None = None,
    threads: int = 0,
    in_order: bool = False,
    fuse: bool = True,
    integers: bool = True,
) -> Infer:
    """Opens `model`, as it is, on ONNX Runtime's CPU provider.

    Args:
        model: Any graph.
        outputs: Names of the outputs to compute; None for all.
        threads: Of one operator; 0 for one per core.
        in_order: Run nodes in the order of the graph, which frees memory early where readers follow their producer.
        fuse: Let the runtime fuse and rewrite. Without it quantisers are computed where they stand and everything
            between them in float32: what the model says, free of the saturation of integer kernels.
        integers: Use integer kernels. Without them the same numbers come as without `fuse`, at the speed of float.

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
    if not fuse:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if in_order:
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        register(options, custom.libraries(model))
        path = save(model, Path(folder), libraries=False)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = list(outputs or (o.name for o in session.get_outputs()))

    def infer(feed: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return dict(zip(names, session.run(names, dict(feed)), strict=True))

    return infer


def workers() -> int:
    """Returns how many batches to run side by side, each with one thread: one per core, at most four."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)
