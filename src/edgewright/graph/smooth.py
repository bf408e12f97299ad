"""SmoothQuant: outlier channels of activations are made smaller and the weights that multiply them larger.

From Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models". With
s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), dividing channel j of the activation by s_j, inside the layer norm or
the linear layer that makes it, and multiplying row j of the weights by s_j changes nothing in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.affine import activation_grid, channel_range, dequantise, parameters, quantise, weight_grid
from edgewright.graph.channels import ChannelFigures
from edgewright.graph.quantisers import numbers

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
WIDEST = 1e4
_READERS = ("MatMul", "Gemm")
_PASSED = ("Relu", "LeakyRelu")


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Linear layers that read one activation, and what makes it.

    Attributes:
        tensor: Name of the activation; its channels are the last axis.
        readers: MatMul and Gemm operators with constant weights; nothing else reads it.
        made_by: Constants that are divided, each with the axis of the channels.
        source: Operator that they belong to.
    """

    tensor: str
    readers: tuple[ir.Node, ...]
    made_by: tuple[tuple[ir.Value, int], ...]
    source: str


def find_groups(graph: ir.Graph) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Returns the groups in graph order, and activation -> why it is left alone."""
    groups: list[Group] = []
    left: dict[str, str] = {}
    seen: set[str] = set()
    for node in graph:
        data = node.inputs[0] if node.inputs else None
        if not _reads(node) or data is None or not data.name or data.name in seen:
            continue
        seen.add(data.name)
        found = _group(data)
        if isinstance(found, Group):
            groups.append(found)
        else:
            left[data.name] = found
    return tuple(groups), left


def weight_rows(node: ir.Node, weights: NDArray[Any]) -> NDArray[Any]:
    """Returns a view of `weights` as [input channels, output channels]."""
    return weights.T if node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0)) else weights


def factors(group: Group, seen: ChannelFigures, alpha: float) -> NDArray[np.float64]:
    """Returns what each channel of the activation is divided by; 1 for channels that are always zero."""
    activation = np.maximum(np.abs(seen.low), np.abs(seen.high))
    weights = np.max([np.abs(weight_rows(n, _constant(n))).max(axis=1) for n in group.readers], axis=0)
    alive = (activation > 0) & (weights > 0)
    made = np.where(alive, activation, 1.0) ** alpha / np.where(alive, weights, 1.0) ** (1 - alpha)
    return np.asarray(np.clip(made, 1 / WIDEST, WIDEST), np.float64)


def best_alpha(group: Group, seen: ChannelFigures, rows: NDArray[Any]) -> tuple[float | None, Mapping[str, float]]:
    """Chooses alpha by the error that 8-bit activations and 8-bit weights per channel make in the products.

    Args:
        group: The layers.
        seen: Figures of the activation over all samples; they set the range.
        rows: Some of its values, [rows, channels].

    Returns:
        The alpha with the least squared error, None where smoothing does not lower it, and the error of each relative
        to that without smoothing.
    """
    ones = np.ones(rows.shape[1])
    plain = _error(group, seen, rows, ones)
    tried = {alpha: _error(group, seen, rows, factors(group, seen, alpha)) for alpha in ALPHAS}
    best = min(tried, key=lambda alpha: tried[alpha])
    relative = {f"{alpha:g}": error / max(plain, 1e-30) for alpha, error in tried.items()}
    return (best if tried[best] < plain else None), relative


def smooth(group: Group, by: NDArray[np.float64]) -> None:
    """Divides the activation of `group` by one number per channel and multiplies the weights that read it, in place."""
    for value, axis in group.made_by:
        known = numbers(value)
        assert known is not None
        shape = [1] * known.ndim
        shape[axis] = -1
        _update(value, known.astype(np.float64) / by.reshape(shape))
    for node in group.readers:
        weights = _constant(node).astype(np.float64)
        rows = weight_rows(node, weights)
        rows *= by[:, None]
        stored = node.inputs[1]
        assert stored is not None
        _update(stored, weights)


def sample_rows(arrays: Sequence[NDArray[Any]], most: int) -> NDArray[np.float32]:
    """Returns up to about `most` rows, evenly spread, of activations whose last axis is the channel."""
    rows = np.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])
    return np.asarray(rows[:: max(len(rows) // most, 1)], np.float32)


def _error(group: Group, seen: ChannelFigures, rows: NDArray[Any], by: NDArray[np.float64]) -> float:
    grid = activation_grid("uint8", False)
    scale, zero = parameters((seen.low / by).min(), (seen.high / by).max(), grid, False)
    rounded = dequantise(quantise((rows / by).astype(np.float32), scale, zero, grid), scale, zero)
    total = 0.0
    for node in group.readers:
        weights = weight_rows(node, _constant(node)).astype(np.float32)
        scaled = (weights * by[:, None]).astype(np.float32)
        limits = weight_grid("int8", 8)
        steps, zeros = parameters(*channel_range(scaled, 1), limits, True)
        stored = dequantise(quantise(scaled, steps, zeros, limits, 1), steps, zeros, 1)
        total += float(np.mean(np.square(rounded @ stored - rows @ weights)))
    return total


def _reads(node: ir.Node) -> bool:
    weights = numbers(node.inputs[1]) if node.op_type in _READERS else None
    return weights is not None and weights.ndim == 2 and not node.attributes.get_int("transA", 0)


def _group(data: ir.Value) -> Group | str:
    readers = tuple(use.node for use in data.uses())
    others = sorted({node.op_type for node in readers if not _reads(node) or node.inputs[0] is not data})
    if others or data.is_graph_output():
        return f"{', '.join(others) or 'an output of the model'} reads it too"
    if not all(_own(node.inputs[1]) for node in readers):
        return "the weights that multiply it have other readers"
    made_by = _made_by(data)
    if isinstance(made_by, str):
        return made_by
    source, constants = made_by
    if not all(_own(value) for value, _ in constants):
        return f"the constants of the {source} before it have other readers"
    return Group(data.name or "", readers, constants, source)


def _made_by(value: ir.Value) -> tuple[str, tuple[tuple[ir.Value, int], ...]] | str:
    """Finds the constants that make the channels of `value`: of a layer norm or of a linear layer."""
    node = value.producer()
    if node is None:
        return "it is an input of the model"
    if node.op_type in _PASSED and node.inputs[0] is not None:
        alone = len(node.inputs[0].uses()) == 1
        return _made_by(node.inputs[0]) if alone else f"what the {node.op_type} before it reads has other readers"
    if node.op_type == "LayerNormalization":
        return _all("LayerNormalization", [(v, -1) for v in node.inputs[1:3] if v is not None])
    if node.op_type == "Gemm" and _reads(node):
        turned = 0 if node.attributes.get_int("transB", 0) else 1
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        return _all("Gemm", [(node.inputs[1], turned), *([(bias, -1)] if bias is not None else [])])
    if node.op_type == "MatMul" and _reads(node):
        return _all("MatMul", [(node.inputs[1], 1)])
    known = node.op_type in ("Add", "Mul")
    return _behind_constant(node) if known else f"it comes from {node.op_type}, which does not scale"


def _behind_constant(node: ir.Node) -> tuple[str, tuple[tuple[ir.Value, int], ...]] | str:
    """Looks through an Add or Mul of one constant per channel: the end of a layer norm or the bias of a MatMul."""
    sides = [i for i, v in enumerate(node.inputs) if (found := numbers(v)) is not None and _per_channel(found)]
    if len(sides) != 1:
        return f"it comes from {node.op_type} of two activations"
    constant, other = node.inputs[sides[0]], node.inputs[1 - sides[0]]
    if node.op_type == "Mul":
        return _all("Mul of a layer norm", [(constant, -1)])
    if other is None or len(other.uses()) > 1:
        return "what is added to its bias has other readers"
    before = _made_by(other)
    if isinstance(before, str):
        return before
    return before[0], (*before[1], *([(constant, -1)] if constant is not None else []))


def _all(
    source: str, constants: Sequence[tuple[ir.Value | None, int]]
) -> tuple[str, tuple[tuple[ir.Value, int], ...]] | str:
    known = tuple((value, axis) for value, axis in constants if value is not None and numbers(value) is not None)
    return (source, known) if len(known) == len(constants) else f"the {source} before it has computed parameters"


def _per_channel(array: NDArray[Any]) -> bool:
    return bool(array.ndim) and array.size == array.shape[-1] and array.size > 1


def _own(value: ir.Value | None) -> bool:
    return value is not None and len(value.uses()) == 1 and value.is_initializer()


def _constant(node: ir.Node) -> NDArray[Any]:
    found = numbers(node.inputs[1])
    assert found is not None
    return found


def _update(value: ir.Value, array: NDArray[Any]) -> None:
    value.const_value = ir.tensor(np.ascontiguousarray(array, np.float32), name=value.name)
