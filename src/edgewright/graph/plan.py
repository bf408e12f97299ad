"""Describe a quantisation: scale, zero point and reason of every tensor, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid, activation_grid, channel_range, parameters, weight_grid
from edgewright.graph.placement import Placement, has_weights
from edgewright.graph.statistics import Statistics, TensorStatistics

UNIT_RANGE = ("Sigmoid", "Softmax", "HardSigmoid")
"""Operators whose output lies within 0..1 whatever the input."""
MAX_BIAS = 2**31 - 2**12
"""Largest integer of a bias; the margin is more than the rounding of float32 scales."""

RangeRule = Callable[[TensorStatistics], tuple[float, float]]
Range = tuple[float, float]


def range_rule(ranges: str, percent: float) -> tuple[RangeRule, str]:
    """Returns the rule that turns statistics into a range, and its name for the plan's reasons.

    Raises:
        ConfigError: `ranges` is neither `minmax` nor `percentile`.
    """
    if ranges == "minmax":
        return (lambda seen: (seen.low, seen.high)), "extremes"
    if ranges == "percentile":
        return (lambda seen: seen.percentile(percent)), f"{percent:g}% of the values"
    raise ConfigError(f'ranges "{ranges}", expected "minmax" or "percentile"', hint="correct the field `ranges`")


def describe(
    placement: Placement,
    scheme: Scheme,
    statistics: Statistics,
    ranges: str = "minmax",
    percent: float = 99.999,
) -> Plan:
    """Computes the plan; a pure function of its arguments.

    Args:
        placement: What `placement.decide` chose.
        scheme: Types and symmetry.
        statistics: Of the same graph.
        ranges: `minmax` or `percentile`.
        percent: Share of values inside the range, for `percentile`.

    Raises:
        ConfigError: The statistics lack a tensor, or hold no histograms although percentile ranges are asked for.
    """
    rule, rule_name = range_rule(ranges, percent)
    found = _group_ranges(placement, statistics, rule)
    grid = activation_grid(scheme.activation, scheme.activation_symmetric)
    tensors = [_activation(value, placement, found, grid, scheme, rule_name) for value in placement.values]
    scales = {t.tensor: t.scale[0] for t in tensors}
    for node in placement.anchors:
        if has_weights(node):
            tensors.extend(_weights(node, scheme, scales))
    hints = {"session": dict(scheme.session)} if scheme.session else {}
    unique = tuple({t.tensor: t for t in tensors}.values())
    return Plan(scheme.name, unique, dict(sorted(placement.kept_float.items())), hints)


def weight_axis(node: ir.Node, weights: NDArray[Any]) -> int | None:
    """Returns the output-channel axis of the weights of `node`, None where ONNX has no per-channel form."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if (node.attributes.get_int("group", 1) or 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if weights.ndim == 2 else None


def _group_ranges(placement: Placement, statistics: Statistics, rule: RangeRule) -> Mapping[str, Range]:
    found: dict[str, Range] = {}
    for value in placement.values:
        name = value.name or ""
        low, high = _range(value, statistics, rule)
        root = placement.groups[name]
        known = found.get(root, (0.0, 0.0))
        found[root] = (min(low, known[0]), max(high, known[1]))
    return found


def _range(value: ir.Value, statistics: Statistics, rule: RangeRule) -> Range:
    if value.const_value is not None:
        numbers = value.const_value.numpy()
        return float(numbers.min()), float(numbers.max())
    producer = value.producer()
    if producer is not None and producer.op_type in UNIT_RANGE:
        return 0.0, 1.0
    seen = statistics.tensors.get(value.name or "")
    if seen is None:
        raise ConfigError(
            f'no statistics of tensor "{value.name}"', hint="calibrate the same model that is quantised, then quantise"
        )
    try:
        return rule(seen)
    except ValueError as error:
        raise ConfigError(f'tensor "{value.name}": {error}', hint="set `bins` of calibrate to 2048") from error


def _activation(
    value: ir.Value, placement: Placement, found: Mapping[str, Range], grid: Grid, scheme: Scheme, rule: str
) -> TensorPlan:
    name = value.name or ""
    root = placement.groups[name]
    low, high = found[root]
    scale, zero = parameters(np.asarray(low), np.asarray(high), grid, scheme.activation_symmetric)
    reason = f"{rule}: {low:.6g} to {high:.6g}"
    if sum(1 for each in placement.groups.values() if each == root) > 1:
        reason += ", one scale with the tensors that the same integers pass through"
    return TensorPlan(name, grid.dtype, (float(scale),), (int(zero),), None, reason)


def _weights(node: ir.Node, scheme: Scheme, scales: Mapping[str, float]) -> list[TensorPlan]:
    value, data = node.inputs[1], node.inputs[0]
    assert value is not None
    assert value.const_value is not None
    assert data is not None
    weights = value.const_value.numpy()
    axis = weight_axis(node, weights) if scheme.weight_per_channel else None
    bits = scheme.input_weight_bits if scheme.input_weight_bits and data.is_graph_input() else scheme.weight_bits
    grid = weight_grid(scheme.weight, bits, scheme.weight_symmetric)
    scale, zero = parameters(*channel_range(weights, axis), grid, scheme.weight_symmetric)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    numbers = None if bias is None or bias.const_value is None else bias.const_value.numpy()
    quantised_bias = scheme.bias == "int32" and numbers is not None and numbers.ndim == 1 and data.name in scales
    reason = f"extremes per {'channel' if axis is not None else 'tensor'}, {bits} bits"
    if quantised_bias and numbers is not None:
        widened = np.maximum(scale, _least_scale(numbers, scales[data.name or ""], scale.ndim)).astype(np.float32)
        reason += ", widened so that the bias fits into int32" if np.any(widened > scale) else ""
        scale = widened
    plans = [_plan(value.name or "", grid.dtype, scale, zero, axis, reason)]
    if quantised_bias and bias is not None and numbers is not None:
        product = (np.float32(scales[data.name or ""]) * scale).astype(np.float32)
        per_channel = 0 if product.ndim else None
        why = "input scale x weight scale"
        plans.append(_plan(bias.name or "", "int32", product, np.zeros(product.shape, np.int64), per_channel, why))
    return plans


def _least_scale(bias: NDArray[Any], input_scale: float, ndim: int) -> NDArray[Any]:
    """Returns the smallest weight scale with which `bias` stays within int32."""
    least = np.abs(bias.astype(np.float64)) / (input_scale * MAX_BIAS)
    return np.asarray(least if ndim else least.max(initial=0.0))


def _plan(name: str, dtype: str, scale: Any, zero: Any, axis: int | None, reason: str) -> TensorPlan:
    scales = tuple(float(s) for s in np.atleast_1d(scale))
    return TensorPlan(name, dtype, scales, tuple(int(z) for z in np.atleast_1d(zero)), axis, reason)
