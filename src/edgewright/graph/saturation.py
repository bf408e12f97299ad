"""Where sums of 8-bit products saturate: x86 without VNNI, signed weights.

There ONNX Runtime multiplies with `vpmaddubsw`, which adds two neighbouring products u8 x s8 and keeps the sum in 16
signed bits: anything above 32767 or below -32768 is cut off (Intel SDM, volume 2, PMADDUBSW). Which products are
neighbours was found by experiment on AVX2 and is bit-exact there: the reduction is laid out one output channel after
the other, kernel positions before input channels (h, w, c) also where the graph is channels-first, and cut into twos
from the start; an odd end is paired with zero. Depthwise convolutions (one channel in and out per group) widen to 16
bits first and never saturate. Signed activations are no way out: on x86 ONNX Runtime makes the quantisers of a graph
unsigned (`QDQS8ToU8Transformer`), which adds 128 to every integer. VNNI, ARM and the kernels for unsigned weights add
in 32 bits: nothing here concerns them. `tests/graph/test_saturation.py` holds the prediction against the kernels of the
machine that runs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Plan, Scheme, TensorPlan
from edgewright.graph.affine import Grid, quantise
from edgewright.graph.placement import after_fused
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.graph.statistics import Statistics, TensorStatistics

HINT = "saturation"
"""Key of the plan's hint."""

LARGEST = 2**15 - 1
LEVELS = 256
SHIFTS = {"uint8": 0, "int8": 128}
"""Type of activations -> what is added to their integers before they are multiplied."""
ADDING = ("Conv", "MatMul", "Gemm", "MatMulInteger")
"""Operators with integer kernels that add products of constant weights."""

_PAIR_ROOM = LARGEST // (LEVELS - 1) - 2
"""Two weights may add up to 128 steps; rounding each up may take one."""

Integers = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SaturationRisk:
    """What 16-bit sums can do to one operator.

    Attributes:
        node: Its name.
        op: Its operator.
        possible: Share of its pairs of weights whose sum of two products some input saturates, 0 to 1.
        worst: Largest magnitude that a sum of two products can reach, over 32767; at most 1 is safe.
        channel: Output channel of that sum.
        expected: Share of the sums of two products that saturate if neighbouring activations were drawn independently
            from the calibration histogram; None without one. Neighbours are alike, so the truth is rather more.
        loss: Mean error that this makes in the output channel it hurts most, over the range of the output that was
            seen; None where that is not known.
    """

    node: str
    op: str
    possible: float
    worst: float
    channel: int
    expected: float | None = None
    loss: float | None = None

    @property
    def safe(self) -> bool:
        """Whether no input whatever can saturate it."""
        return self.possible == 0


@dataclass(frozen=True, slots=True)
class _Product:
    """One operator that adds products: its integer weights [channels, terms] and what it reads."""

    node: ir.Node
    weights: Integers
    scale: NDArray[Any]
    read: TensorPlan
    written: str


def predict(graph: ir.Graph, plan: Plan, statistics: Statistics | None = None) -> tuple[SaturationRisk, ...]:
    """Says what 16-bit sums would do to every operator that multiplies 8-bit activations by int8 weights.

    Args:
        graph: The float graph that `plan` was made for, or the same with the plan applied.
        plan: How its tensors are quantised.
        statistics: Of the float graph; without them only what is possible is known, not what is to be expected.

    Returns:
        One entry per such operator in graph order, safe ones too.
    """
    seen = statistics.tensors if statistics is not None else {}
    plans = {tensor.tensor: tensor for tensor in plan.tensors}
    products = (_product(node, plans) for node in graph if node.op_type in ADDING)
    return tuple(_risk(product, seen) for product in products if product is not None)


def hint(risks: Iterable[SaturationRisk]) -> Mapping[str, Any]:
    """Returns the plan's hint `saturation`: whether all is safe, and the operators that are not, the worst first."""
    unsafe = sorted((risk for risk in risks if not risk.safe), key=lambda r: (-(r.loss or 0), -r.possible))
    layers = {
        risk.node: {
            "op": risk.op,
            "possible": round(risk.possible, 6),
            "worst": round(risk.worst, 4),
            "expected": risk.expected if risk.expected is None else float(f"{risk.expected:.4g}"),
            "loss": risk.loss if risk.loss is None else float(f"{risk.loss:.4g}"),
        }
        for risk in unsafe
    }
    return {"safe": not layers, "layers": layers}


def with_hint(plan: Plan, scheme: Scheme, graph: ir.Graph, statistics: Statistics) -> Plan:
    """Returns `plan` with the hint `saturation`, where its scheme is for kernels that this module speaks about.

    Args:
        plan: Of `graph`, not applied yet.
        scheme: That it follows.
        graph: The float graph.
        statistics: Of the same graph.
    """
    if not scheme.name.startswith("onnxruntime") or scheme.weight != "int8" or scheme.activation not in SHIFTS:
        return plan
    return replace(plan, hints={**plan.hints, HINT: hint(predict(graph, plan, statistics))})


def told(risks: Iterable[SaturationRisk]) -> str:
    """Returns one sentence for a reader; empty when nothing can saturate."""
    found = list(risks)
    unsafe = [risk for risk in found if not risk.safe]
    if not unsafe:
        return ""
    most = max(unsafe, key=lambda risk: (risk.loss or 0, risk.expected or 0, risk.possible))
    text = f"8-bit products can saturate without VNNI in {len(unsafe)} of {len(found)} operators, most in {most.node}"
    if most.expected is not None:
        text += f", where {most.expected:.2g} of the sums of two products are expected to"
    if most.loss is not None:
        text += f" and a channel is off by {most.loss:.2g} of the output's range"
    return text


def pairs(weights: Integers) -> Integers:
    """Returns the weights whose products are added in 16 bits.

    Args:
        weights: [channels, terms] in the order of the kernel (see the module).

    Returns:
        [channels, half the terms rounded up, 2].
    """
    odd = weights.shape[1] % 2
    padded = np.pad(weights, ((0, 0), (0, odd))) if odd else weights
    return padded.reshape(len(weights), -1, 2)


def least_scale(node: ir.Node, weights: NDArray[Any], axis: int | None) -> NDArray[np.float64] | float:
    """Returns the smallest scales of int8 weights with which no input can saturate a sum of two products.

    Between 7 and 8 bits, as the largest weight of a channel seldom has a neighbour as large and of the same sign; all
    8 bits where the kernel adds in 32 bits. Holds for every way of rounding, up or down.

    Args:
        node: `Conv`, `MatMul` or `Gemm`.
        weights: Float, in the layout of the graph.
        axis: Channel axis; None for one scale.

    Returns:
        One scale per channel or one for all; 0 where nothing limits it.
    """
    ordered = terms(node, weights)
    if ordered is None or node.op_type not in ADDING:
        return 0.0
    found = pairs(ordered.astype(np.float64))
    largest = np.maximum(np.maximum(found, 0).sum(-1), np.maximum(-found, 0).sum(-1)).max(axis=1, initial=0.0)
    scales = np.asarray(largest / _PAIR_ROOM, np.float64)
    if axis is None or len(scales) != weights.shape[axis]:
        return float(scales.max(initial=0.0))
    return scales


def saturating_product(activations: Integers, weights: Integers) -> NDArray[np.int64]:
    """Multiplies as the kernel does: sums of two products are cut off at 16 bits, their sum is exact.

    Args:
        activations: [rows, terms], 0 to 255.
        weights: [channels, terms], -128 to 127.

    Returns:
        [rows, channels].
    """
    left, right = pairs(activations.astype(np.int64)), pairs(weights.astype(np.int64))
    sums = np.einsum("rpi,cpi->rcp", left, right)
    return np.asarray(np.clip(sums, -LARGEST - 1, LARGEST).sum(axis=-1), np.int64)


def terms(node: ir.Node, weights: NDArray[Any]) -> NDArray[Any] | None:
    """Returns `weights` as [channels, terms] in the order of the kernel; None where it adds in 32 bits.

    Args:
        node: `Conv`, `MatMul` or `Gemm`.
        weights: Its weights, in the layout of the graph.
    """
    if weights.ndim < 2:
        return None
    if node.op_type == "Conv":
        depthwise = weights.shape[1] == 1 and (node.attributes.get_int("group", 1) or 1) == len(weights)
        return None if depthwise else np.moveaxis(weights, 1, -1).reshape(len(weights), -1)
    transposed = node.attributes.get_int("transB", 0) or 0
    if node.op_type == "Gemm" and transposed:
        return weights
    columns = np.moveaxis(weights, -2, -1)
    return columns.reshape(-1, columns.shape[-1])


def _product(node: ir.Node, plans: Mapping[str, TensorPlan]) -> _Product | None:
    data, value = node.inputs[0], node.inputs[1]
    if data is None or value is None:
        return None
    read, stored = _read(data, plans), _stored(value, plans)
    if read is None or stored is None or read.dtype not in SHIFTS or stored[0].dtype != np.int8:
        return None
    ordered = terms(node, stored[0])
    if ordered is None:
        return None
    scale = np.broadcast_to(stored[1], (len(ordered),)) if len(ordered) % stored[1].size == 0 else stored[1][:1]
    return _Product(node, ordered, scale, read, after_fused(node.outputs[0], ("Relu", "Clip")).name or "")


def _read(value: ir.Value, plans: Mapping[str, TensorPlan]) -> TensorPlan | None:
    """Returns how an activation is quantised, by the plan or by the quantisers in the graph."""
    dequantise = value.producer()
    if dequantise is not None and dequantise.op_type == "DynamicQuantizeLinear":
        return TensorPlan(value.name or "", "uint8", (1.0,), (0,), None, "quantised while running")
    if dequantise is None or dequantise.op_type != DEQUANTIZE or dequantise.inputs[0] is None:
        return plans.get(value.name or "")
    quantise_node = dequantise.inputs[0].producer()
    if quantise_node is None or quantise_node.op_type != QUANTIZE or quantise_node.inputs[0] is None:
        return None
    name = quantise_node.inputs[0].name or ""
    return plans.get(name) or plans.get(name.removesuffix("/float"))


def _stored(value: ir.Value, plans: Mapping[str, TensorPlan]) -> tuple[Integers, NDArray[Any]] | None:
    """Returns integer weights and their scales."""
    if value.const_value is not None and (plan := plans.get(value.name or "")) is not None:
        info = np.iinfo(plan.dtype)
        grid = Grid(plan.dtype, *(plan.limits or (int(info.min), int(info.max))))
        return quantise(value.const_value.numpy(), plan.scale, plan.zero_point, grid, plan.axis), np.array(plan.scale)
    if value.const_value is not None and value.const_value.dtype == ir.DataType.INT8:
        return value.const_value.numpy(), np.ones(1)
    node = value.producer()
    if node is None or node.op_type != DEQUANTIZE or node.inputs[0] is None or node.inputs[1] is None:
        return None
    integers, scale = node.inputs[0].const_value, node.inputs[1].const_value
    return None if integers is None or scale is None else (integers.numpy(), scale.numpy().reshape(-1))


def _risk(product: _Product, seen: Mapping[str, TensorStatistics]) -> SaturationRisk:
    found = pairs(product.weights.astype(np.int64))
    # Products of different signs pull apart: the extremes come from one activation at 255 and the other at 0, or both.
    high = np.maximum(found, 0).sum(-1) * (LEVELS - 1)
    low = np.maximum(-found, 0).sum(-1) * (LEVELS - 1)
    over = (high > LARGEST) | (low > LARGEST + 1)
    reach = np.maximum(high, low - 1)
    channel = int(reach.max(axis=1, initial=0).argmax())
    expected, lost = _expected(found, over, _levels(product.read, seen))
    return SaturationRisk(
        node=product.node.name or product.node.outputs[0].name or "",
        op=product.node.op_type,
        possible=float(over.mean()) if over.size else 0.0,
        worst=float(reach.max(initial=0)) / LARGEST,
        channel=channel,
        expected=expected,
        loss=_loss(product, lost, seen),
    )


def _levels(read: TensorPlan, seen: Mapping[str, TensorStatistics]) -> NDArray[Any] | None:
    """Returns how probable each of the 256 integers is, from the histogram."""
    found = seen.get(read.tensor)
    if found is None or not np.sum(found.counts):
        return None
    centres = (found.edges[1:] + found.edges[:-1]) / 2
    zero = read.zero_point[0] + SHIFTS[read.dtype]
    integers = quantise(centres, read.scale[0], zero, Grid("uint8", 0, LEVELS - 1))
    counts = np.bincount(integers, weights=np.asarray(found.counts, np.float64), minlength=LEVELS)
    return np.asarray(counts / counts.sum())


def _expected(found: Integers, over: Integers, levels: NDArray[Any] | None) -> tuple[float | None, NDArray[Any] | None]:
    """Returns the expected share of saturating sums, and what each channel is expected to lose."""
    if levels is None or not over.size:
        return None, None
    share, excess = np.zeros(over.shape), np.zeros(over.shape)
    if over.any():
        unique, index = np.unique(found[over], axis=0, return_inverse=True)
        chances, means = _tails(np.abs(unique), LARGEST + (unique[:, 0] < 0), levels)
        share[over] = chances[index.reshape(-1)]
        excess[over] = (np.sign(unique[:, 0]) * means)[index.reshape(-1)]
    return float(share.mean()), excess.sum(axis=1)


def _tails(weights: Integers, limit: Integers, levels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the probability that w0 a0 + w1 a1 exceeds `limit`, and the mean of what is above it.

    Args:
        weights: [pairs, 2], positive.
        limit: [pairs].
        levels: Probability of each value of a0 and a1, which are independent.
    """
    values = np.arange(LEVELS)
    beyond = np.append(np.cumsum(levels[::-1])[::-1], 0.0)
    mass = np.append(np.cumsum((levels * values)[::-1])[::-1], 0.0)
    room = limit[:, None] - weights[:, :1] * values
    first = np.clip(room // weights[:, 1:] + 1, 0, LEVELS)
    chances = (levels * beyond[first]).sum(axis=1)
    means = (levels * (weights[:, 1:] * mass[first] - room * beyond[first])).sum(axis=1)
    return chances, means


def _loss(product: _Product, lost: NDArray[Any] | None, seen: Mapping[str, TensorStatistics]) -> float | None:
    written = seen.get(product.written) or seen.get(product.node.outputs[0].name or "")
    if lost is None or written is None or written.high <= written.low:
        return None
    error = np.abs(lost) * product.scale * product.read.scale[0]
    return float(error.max(initial=0.0) / (written.high - written.low))
