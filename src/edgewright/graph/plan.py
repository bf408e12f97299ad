"""Describe a quantisation: scale, zero point and reason of every tensor, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid, activation_grid, parameters
from edgewright.graph.placement import Placement, has_weights
from edgewright.graph.statistics import Statistics, TensorStatistics
from edgewright.graph.weights import describe_weights

UNIT_RANGE = ("Sigmoid", "Softmax", "HardSigmoid")
"""Operators whose output lies within 0..1 whatever the input."""

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
    weights: str = "minmax",
) -> Plan:
    """Computes the plan; a pure function of its arguments.

    Args:
        placement: What `placement.decide` chose.
        scheme: Types and symmetry.
        statistics: Of the same graph.
        ranges: `minmax` or `percentile`.
        percent: Share of values inside the range, for `percentile`.
        weights: Range of weights: `minmax` or `mse`.

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
            tensors.extend(describe_weights(node, scheme, scales, weights))
    hints = {"session": dict(scheme.session)} if scheme.session else {}
    unique = tuple({t.tensor: t for t in tensors}.values())
    return Plan(scheme.name, unique, dict(sorted(placement.kept_float.items())), hints)


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
    if root in placement.fixed:
        scale, zero = placement.fixed[root]
        return TensorPlan(name, grid.dtype, (scale,), (zero,), None, "fixed by the runtime whatever the data")
    low, high = found[root]
    scales, zeros = parameters(np.asarray(low), np.asarray(high), grid, scheme.activation_symmetric)
    reason = f"{rule}: {low:.6g} to {high:.6g}"
    if sum(1 for each in placement.groups.values() if each == root) > 1:
        reason += ", one scale with the tensors that the same integers pass through"
    return TensorPlan(name, grid.dtype, (float(scales),), (int(zeros),), None, reason)
