"""The operators that the compiler knows, and what a model has beyond them."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.channels_last import DOMAIN as CHANNELS_LAST
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.targets._tflite.table import LOWERINGS, RULES
from edgewright.targets._tflite.tail import DOMAIN as JOINED

FOLDED = frozenset({"ConstantOfShape", "Range", "Shape", "Size", "HannWindow", "HammingWindow", "BlackmanWindow"})
"""Known when the model is compiled, from sizes and constants."""
DEFINED = frozenset(
    {
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "CenterCropPad",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "NegativeLogLikelihoodLoss",
        "RMSNormalization",
        "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
    }
)
"""Computed by what ONNX defines them by."""


def ruled() -> frozenset[tuple[str, str]]:
    """Returns the (domain, operator) of ONNX that have a rule of emission or of lowering, or are quantisers."""
    spoken = {("" if domain == CHANNELS_LAST else domain, op) for domain, op in RULES if domain != JOINED}
    return frozenset({*spoken, *(("", op) for op in LOWERINGS), ("", QUANTIZE), ("", DEQUANTIZE), ("", "Constant")})


def claimed() -> tuple[str, ...]:
    """Returns the ONNX operators that the compiler takes, in some of their forms, sorted."""
    return tuple(sorted({op for domain, op in ruled() if domain == ""} | FOLDED | DEFINED))


def unsupported(model: ir.Model) -> tuple[str, ...]:
    """Returns the operators of a prepared model that no rule knows, each with a node."""
    missing: dict[str, str] = {}
    for node in model.graph:
        if not _known(node):
            missing.setdefault(node.op_type, node.name or "")
    return tuple(f"{op} (node {name})" for op, name in missing.items())


def _known(node: ir.Node) -> bool:
    return node.op_type in (QUANTIZE, DEQUANTIZE, "Constant") or (node.domain, node.op_type) in RULES
