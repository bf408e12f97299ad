"""Describe a quantisation: scale, zero point and reason of every tensor, before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid, activation_grid, parameters
from edgewright.graph.placement import Placement, has_weights
from edgewright.graph.ranges import Chosen, check_method, choose, clipped, union
from edgewright.graph.statistics import Statistics, TensorStatistics
from edgewright.graph.weights import describe_weights

UNIT_RANGE = ("Sigmoid", "Softmax", "HardSigmoid")
"""Operators whose output lies within 0..1 whatever the input."""
FIXED = "fixed by the runtime whatever the data"
"""Reason of scales that no data and no training changes."""

RangeRule = Callable[[TensorStatistics], Chosen]


def range_rule(ranges: str, percent: float, grid: Grid, symmetric: bool) -> RangeRule:
    """Returns the rule that turns statistics into a range.

    Raises:
        ConfigError: There is no method `ranges`.
    """
    check_method(ranges)
    return lambda seen: choose(seen, ranges, grid, symmetric, percent)


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
        ranges: How ranges of activations are chosen: one of `graph.ranges.METHODS`.
        percent: Share of values inside the range, for `percentile`.
        weights: Range of weights: `minmax` or `mse`.

    Raises:
        ConfigError: The statistics lack a tensor, or hold no histograms although the ranges need them.
    """
    grid = activation_grid(scheme.activation, scheme.activation_symmetric)
    found = _group_ranges(placement, statistics, range_rule(ranges, percent, grid, scheme.activation_symmetric))
    tensors = [_activation(value, placement, found, grid, scheme, statistics) for value in placement.values]
    scales = {t.tensor: t.scale[0] for t in tensors}
    for node in placement.anchors:
        if has_weights(node):
            tensors.extend(describe_weights(node, scheme, scales, weights))
    hints = {"session": dict(scheme.session)} if scheme.session else {}
    unique = tuple({t.tensor: t for t in tensors}.values())
    return Plan(scheme.name, unique, dict(sorted(placement.kept_float.items())), hints)


def _group_ranges(placement: Placement, statistics: Statistics, rule: RangeRule) -> Mapping[str, Chosen]:
    found: dict[str, Chosen] = {}
    for value in placement.values:
        name = value.name or ""
        chosen = _range(value, statistics, rule)
        root = placement.groups[name]
        found[root] = union(found[root], chosen) if root in found else chosen
    return found


def _range(value: ir.Value, statistics: Statistics, rule: RangeRule) -> Chosen:
    if value.const_value is not None:
        numbers = value.const_value.numpy()
        return Chosen(min(float(numbers.min()), 0.0), max(float(numbers.max()), 0.0), "extremes of a constant")
    producer = value.producer()
    if producer is not None and producer.op_type in UNIT_RANGE:
        return Chosen(0.0, 1.0, f"bounds of {producer.op_type}")
    seen = statistics.tensors.get(value.name or "")
    if seen is None:
        raise ConfigError(
            f'no statistics of tensor "{value.name}"', hint="calibrate the same model that is quantised, then quantise"
        )
    try:
        return rule(seen)
    except ValueError as error:
        raise ConfigError(f'tensor "{value.name}": {error}', hint="set `bins` of calibrate to 4096") from error


def _activation(
    value: ir.Value,
    placement: Placement,
    found: Mapping[str, Chosen],
    grid: Grid,
    scheme: Scheme,
    statistics: Statistics,
) -> TensorPlan:
    name = value.name or ""
    root = placement.groups[name]
    if root in placement.fixed:
        scale, zero = placement.fixed[root]
        return TensorPlan(name, grid.dtype, (scale,), (zero,), None, FIXED)
    low, high = found[root].low, found[root].high
    scales, zeros = parameters(np.asarray(low), np.asarray(high), grid, scheme.activation_symmetric)
    seen = statistics.tensors.get(name)
    outside = clipped(seen, low, high) if seen is not None else 0.0
    reason = f"{found[root].title}: {low:.6g} to {high:.6g}" + (
        f", {outside:.2g} of the values clipped" if outside else ""
    )
    if sum(1 for each in placement.groups.values() if each == root) > 1:
        reason += ", one scale with the tensors that the same integers pass through"
    return TensorPlan(name, grid.dtype, (float(scales),), (int(zeros),), None, reason)
