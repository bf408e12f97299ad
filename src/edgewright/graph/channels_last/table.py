"""Which rule stands for which operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgewright.graph.channels_last import along, pointwise, products, views
from edgewright.graph.channels_last.sites import Rule, Site

_RULES: Mapping[str, Callable[[Site], Rule | None]] = {
    **dict.fromkeys(pointwise.UNARY, pointwise.unary),
    **dict.fromkeys(pointwise.BROADCAST, pointwise.broadcast),
    **dict.fromkeys(along.REDUCTIONS, along.reduction),
    **dict.fromkeys(views.RESHAPES, views.reshape),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), along.softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), along.arg_extreme),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), pointwise.quantiser),
    "Concat": along.concat,
    "Expand": pointwise.expand,
    "Gather": views.gather,
    "Gemm": products.gemm,
    "LayerNormalization": along.normalised_tail,
    "LpNormalization": along.one_axis(-1),
    "MatMul": products.matmul,
    "Pad": along.pad,
    "Slice": along.slices,
    "Split": along.one_axis(0),
    "Tile": along.tile,
    "TopK": along.one_axis(-1),
    "Transpose": views.transpose,
}


def rule_for(site: Site) -> Rule | None:
    """Returns the rule of a node; None where it works in ONNX order alone."""
    if site.node.domain not in ("", "ai.onnx") or None in site.gives[:1]:
        return None
    make = _RULES.get(site.node.op_type)
    return None if make is None else make(site)
