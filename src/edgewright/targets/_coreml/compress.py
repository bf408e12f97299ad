"""Weights in less space: whole numbers with scales of our own, or palettes."""

from __future__ import annotations

import warnings
from typing import Any

import onnx_ir as ir

from edgewright.core.target import Plan, TensorPlan
from edgewright.errors import StepFailed
from edgewright.graph import qdq
from edgewright.graph.quantisers import is_constant
from edgewright.graph.schemes.coreml import S8S8
from edgewright.graph.weights import describe_weights
from edgewright.runtimes._coremltools import quiet
from edgewright.targets._coreml.options import PALETTES

SMALLEST = 256
"""Values above which a tensor is worth a palette."""
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def round_weights(model: ir.Model) -> ir.Model:
    """Returns a copy whose float weights are int8 behind a DequantizeLinear, one scale per channel over its extremes.

    Args:
        model: Its nodes are named; what is quantised already stays as it is.
    """
    rounded = model.clone()
    graph = rounded.graph
    qdq.prepare(rounded)
    plans: dict[str, TensorPlan] = {}
    for node in graph:
        if node.op_type in _WEIGHTED and _in_float(node):
            plans.update({plan.tensor: plan for plan in describe_weights(node, S8S8, {})[:1]})
    qdq.apply(graph, Plan(S8S8.name, tuple(plans.values())))
    return rounded


def _in_float(node: ir.Node) -> bool:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or not is_constant(value) or value.const_value is None or value.dtype != ir.DataType.FLOAT:
        return False
    return len(value.const_value.shape) >= 2


def palettise(coremltools: Any, mlmodel: Any, form: str) -> Any:
    """Returns `mlmodel` with its large float weights as numbers of entries of a table, found by k-means per tensor.

    Args:
        coremltools: The module.
        mlmodel: Converted for iOS 16 or newer.
        form: A key of `PALETTES`.

    Raises:
        StepFailed: coremltools fails.
    """
    optimize = coremltools.optimize.coreml
    config = optimize.OpPalettizerConfig(mode="kmeans", nbits=PALETTES[form], weight_threshold=SMALLEST)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return optimize.palettize_weights(mlmodel, optimize.OptimizationConfig(global_config=config))
        except Exception as error:
            text = " ".join(str(error).split())[:400]
            raise StepFailed(
                f"coremltools cannot make palettes of the weights: {text}", hint="choose another `weights`"
            ) from error
