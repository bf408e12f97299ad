"""Describe how weights and biases are quantised: one scale per channel where the scheme allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Scheme, TensorPlan
from edgewright.errors import ConfigError
from edgewright.graph.affine import weight_grid
from edgewright.graph.saturation import least_scale
from edgewright.graph.weight_ranges import RULES, weight_parameters

MAX_BIAS = 2**31 - 2**12
"""Largest integer of a bias; the margin is more than the rounding of float32 scales."""


def weight_axis(node: ir.Node, rank: int) -> int | None:
    """Returns the output-channel axis of weights of `rank` axes; None where ONNX has no per-channel form."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if (node.attributes.get_int("group", 1) or 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if rank == 2 else None


def _is_input(value: ir.Value, moving: tuple[str, ...]) -> bool:
    """Says whether `value` is the model's input, perhaps in another shape or order."""
    node = value.producer()
    while node is not None and node.op_type in moving and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value.is_graph_input()


def describe_weights(
    node: ir.Node, scheme: Scheme, scales: Mapping[str, float], rule: str = "minmax"
) -> list[TensorPlan]:
    """Returns the plans of the weights of `node` and of its bias.

    Args:
        node: Operator whose second input is constant.
        scheme: Types, bits and axes.
        scales: Scale of every quantised activation by name; the bias follows from its input's.
        rule: `minmax` covers all weights, `mse` takes the range with the least squared error.

    Raises:
        ConfigError: The rule is unknown.
    """
    if rule not in RULES:
        raise ConfigError(f'weights "{rule}", expected one of {", ".join(RULES)}', hint="correct the field `weights`")
    value, data = node.inputs[1], node.inputs[0]
    assert value is not None
    assert value.const_value is not None
    assert data is not None
    weights = value.const_value.numpy()
    per_channel = scheme.weight_per_channel and node.op_type not in scheme.per_tensor_ops
    axis = weight_axis(node, weights.ndim) if per_channel else None
    first = scheme.input_weight_bits and _is_input(data, scheme.shared)
    bits = scheme.input_weight_bits if first else scheme.weight_bits
    grid = weight_grid(scheme.weight, bits, scheme.weight_symmetric)
    bias = _quantised_bias(node, scheme, scales)
    least = None if bias is None else _least_scale(_numbers(bias), scales[data.name or ""], axis is not None)
    room = least_scale(node, weights, axis) if scheme.safe_pairs else 0.0
    floor = np.maximum(room, 0.0 if least is None else least)
    scale, zero = weight_parameters(weights, axis, grid, scheme.weight_symmetric, rule, floor)
    what = "extremes" if rule == "minmax" else "least squared error"
    reason = f"{what} per {'channel' if axis is not None else 'tensor'}, {bits} bits"
    if np.any(np.asarray(room) > 0):
        reason += ", sums of two products within 16 bits"
    if least is not None and np.any(np.atleast_1d(scale) <= np.asarray(least, np.float32)):
        reason += ", widened so that the bias fits into int32"
    limits = (grid.low, grid.high)
    plans = [tensor_plan(value.name or "", grid.dtype, scale, zero, axis, reason, limits)]
    if bias is not None:
        product = (np.float32(scales[data.name or ""]) * scale).astype(np.float32)
        zeros = np.zeros(product.shape, np.int64)
        why = "input scale x weight scale"
        plans.append(tensor_plan(bias.name or "", "int32", product, zeros, 0 if product.ndim else None, why))
    return plans


def _quantised_bias(node: ir.Node, scheme: Scheme, scales: Mapping[str, float]) -> ir.Value | None:
    """Returns the bias of `node` if it becomes integers."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    data = node.inputs[0]
    if scheme.bias != "int32" or bias is None or bias.const_value is None or data is None or data.name not in scales:
        return None
    return bias if bias.const_value.numpy().ndim == 1 else None


def _numbers(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None
    return value.const_value.numpy()


def _least_scale(bias: NDArray[Any], input_scale: float, per_channel: bool) -> NDArray[Any]:
    """Returns the smallest weight scale with which `bias` stays within int32."""
    least = np.abs(bias.astype(np.float64)) / (input_scale * MAX_BIAS)
    return np.asarray(least if per_channel else least.max(initial=0.0))


def tensor_plan(
    name: str, dtype: str, scale: Any, zero: Any, axis: int | None, reason: str, limits: tuple[int, int] | None = None
) -> TensorPlan:
    """Returns the plan of one tensor from arrays of scales and zero points."""
    scales = tuple(float(s) for s in np.atleast_1d(scale))
    return TensorPlan(name, dtype, scales, tuple(int(z) for z in np.atleast_1d(zero)), axis, reason, limits)
