"""Describe how weights and biases are quantised: one scale per channel where the scheme allows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Scheme, TensorPlan
from edgewright.graph.affine import channel_range, parameters, weight_grid

MAX_BIAS = 2**31 - 2**12
"""Largest integer of a bias; the margin is more than the rounding of float32 scales."""


def weight_axis(node: ir.Node, weights: NDArray[Any]) -> int | None:
    """Returns the output-channel axis of the weights of `node`, None where ONNX has no per-channel form."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if (node.attributes.get_int("group", 1) or 1) == 1 else None
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1 if weights.ndim == 2 else None


def describe_weights(node: ir.Node, scheme: Scheme, scales: Mapping[str, float]) -> list[TensorPlan]:
    """Returns the plans of the weights of `node` and of its bias.

    Args:
        node: Operator whose second input is constant.
        scheme: Types, bits and axes.
        scales: Scale of every quantised activation by name; the bias follows from its input's.
    """
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
    plans = [tensor_plan(value.name or "", grid.dtype, scale, zero, axis, reason)]
    if quantised_bias and bias is not None and numbers is not None:
        product = (np.float32(scales[data.name or ""]) * scale).astype(np.float32)
        per_channel = 0 if product.ndim else None
        why = "input scale x weight scale"
        plans.append(
            tensor_plan(bias.name or "", "int32", product, np.zeros(product.shape, np.int64), per_channel, why)
        )
    return plans


def _least_scale(bias: NDArray[Any], input_scale: float, ndim: int) -> NDArray[Any]:
    """Returns the smallest weight scale with which `bias` stays within int32."""
    least = np.abs(bias.astype(np.float64)) / (input_scale * MAX_BIAS)
    return np.asarray(least if ndim else least.max(initial=0.0))


def tensor_plan(name: str, dtype: str, scale: Any, zero: Any, axis: int | None, reason: str) -> TensorPlan:
    """Returns the plan of one tensor from arrays of scales and zero points."""
    scales = tuple(float(s) for s in np.atleast_1d(scale))
    return TensorPlan(name, dtype, scales, tuple(int(z) for z in np.atleast_1d(zero)), axis, reason)
