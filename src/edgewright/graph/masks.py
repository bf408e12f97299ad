"""Find tensors that 8 bits cannot hold: a sum of scores and a mask of -10000, the infinities of attention.

One scale covers the whole range of a tensor. Where an operand of a sum spans only a small part of the sum's range,
as attention scores do beside the very negative number that hides padding, it falls into a few steps of that scale or
into a single one, and all that it says is lost, however the range is chosen: a percentile either keeps the mask,
which is no rare outlier, or stops it from masking.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgewright.graph.statistics import Statistics, TensorStatistics

LEAST_STEPS = 8
"""Steps of the result's 255 that each operand must span: 3 bits. Masks leave 1 or none, weak residuals 30."""
INFINITE = 1e30
"""Numbers beyond it stand for infinity."""
JOINS = ("Add", "Sub", "Sum", "Where")
PASSES = (
    *("Cast", "Clip", "DepthToSpace", "Div", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Max", "MaxPool"),
    *("Min", "Mul", "ReduceMax", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators whose result is as hard to hold as their operand, unless they leave the extremes behind."""
SHRINKS = 0.5
"""An operator leaves extremes behind if its result spans less than this share of its operand."""


def masked(graph: ir.Graph, statistics: Statistics) -> dict[str, str]:
    """Returns the name of every activation that one 8-bit scale cannot hold, and why.

    Args:
        graph: With statistics of its own tensors.
        statistics: Their extremes are used, whatever rule chooses ranges.
    """
    found: dict[str, str] = {}
    for node in graph:
        for value in node.outputs:
            seen = statistics.tensors.get(value.name or "")
            if value.name and seen is not None and (reason := _reason(node, seen, statistics, found)):
                found[value.name] = reason
    return found


def _reason(node: ir.Node, seen: TensorStatistics, statistics: Statistics, found: Mapping[str, str]) -> str:
    """Says why the result of `node` cannot be held; empty where it can."""
    if _span(seen) > INFINITE:
        return f"its input reaches {seen.low:.3g} to {seen.high:.3g}, which 8 bits cannot hold"
    operands = _operands(node, statistics)
    if node.op_type in JOINS:
        for name, each in operands.items():
            steps = 255 * (each.high - each.low) / (_span(seen) or 1.0)
            if 0 < steps < LEAST_STEPS:
                return (
                    f'its input reaches {seen.low:.3g} to {seen.high:.3g}: in 8 bits "{name}" '
                    f"({each.low:.3g} to {each.high:.3g}) would keep {steps:.2g} of 255 steps"
                )
    if node.op_type in PASSES:
        for name, each in operands.items():
            if name in found and _span(seen) >= SHRINKS * _span(each) * _factor(node):
                return found[name]
    return ""


def _operands(node: ir.Node, statistics: Statistics) -> dict[str, TensorStatistics]:
    names = [v.name for v in node.inputs if v is not None and v.name and v.const_value is None]
    return {name: statistics.tensors[name] for name in names if name in statistics.tensors}


def _factor(node: ir.Node) -> float:
    """Returns what a product with a constant scalar does to a range; 1 for every other operator."""
    if node.op_type not in ("Mul", "Div"):
        return 1.0
    known = [v.const_value.numpy() for v in node.inputs if v is not None and v.const_value is not None]
    if len(known) != 1 or known[0].size != 1 or not (number := abs(float(known[0].reshape(-1)[0]))):
        return 1.0
    return number if node.op_type == "Mul" else 1 / number


def _span(seen: TensorStatistics) -> float:
    """Returns the width of the range that a quantiser covers: it always holds zero."""
    return max(seen.high, 0.0) - min(seen.low, 0.0)
