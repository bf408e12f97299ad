"""Zeros in the weights of a graph: found in any form that weights are stored in, and put there by magnitude.

A pattern `N:M` keeps at most N of every M neighbouring weights along the axis that a product sums over, each output
and each position of a kernel for itself. `2:4` is the one that tensor cores skip (Mishra et al. 2021, "Accelerating
Sparse Deep Neural Networks").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, numbers

Mask: TypeAlias = NDArray[np.bool_]
UNSTRUCTURED = "unstructured"
PATTERNS = ((1, 4), (2, 4), (4, 8))
"""N:M looked for in weights, the strictest first."""
SPARSE = 0.25
"""Share of zeros from which weights count as sparse: trained weights are hardly ever zero by themselves."""
_PRODUCTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "MatMul": 1, "MatMulInteger": 1, "QLinearMatMul": 4,
             "Gemm": 1, "ConvTranspose": 1, "LSTM": 1, "GRU": 1, "RNN": 1}  # fmt: skip
"""Operator -> which of its inputs holds the weights."""
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_DIRECT_ZEROS = {"ConvInteger": 3, "MatMulInteger": 3, "QLinearConv": 5, "QLinearMatMul": 5}
"""Integer operator -> its input that holds the zero point of the weights."""


@dataclass(frozen=True, slots=True)
class Weight:
    """The stored weights of one layer.

    Attributes:
        node: The layer.
        value: The initialiser, or output of a Constant, that holds them.
        array: As stored.
        zero: The number that stands for zero, shaped to broadcast; 0 for floats.
        axis: Of `array`, that the layer sums over; of a convolution the input channels of its group.
    """

    node: ir.Node
    value: ir.Value
    array: NDArray[Any]
    zero: NDArray[Any]
    axis: int

    @property
    def zeros(self) -> Mask:
        """Where a weight is zero."""
        return np.asarray(self.array == self.zero)

    @property
    def depth(self) -> int:
        """How many weights stand along the axis."""
        return int(self.array.shape[self.axis])


@dataclass(frozen=True, slots=True)
class LayerSparsity:
    """How sparse one layer is.

    Attributes:
        layer: Name of its node.
        op: Its operator.
        weights: How many.
        share: Of them that are zero.
        pattern: `1:4`, `2:4` or `4:8` where the weights keep to it, `unstructured` for a quarter of zeros and more
            without one, empty for dense weights.
        idle: Output channels of which every weight is zero.
        outputs: Output channels.
    """

    layer: str
    op: str
    weights: int
    share: float
    pattern: str
    idle: int
    outputs: int


def weights_of(graph: ir.Graph) -> Iterator[Weight]:
    """Yields the weights of every product and convolution that are known before the model runs, in graph order.

    Float weights, weights behind quantisers and stored integers are all found, through transposes, too.
    """
    for node in graph.all_nodes():
        index = _PRODUCTS.get(node.op_type)
        if index is None or node.domain not in ("", "ai.onnx") or len(node.inputs) <= index:
            continue
        for which in (1, 2) if node.op_type in _RECURRENT else (index,):
            found = _stored(node, which)
            if found is not None:
                yield found


def measure(model: ir.Model) -> tuple[LayerSparsity, ...]:
    """Returns how sparse every layer of `model` is, in graph order."""
    return tuple(_layer(weight) for weight in weights_of(model.graph))


def total(layers: Sequence[LayerSparsity]) -> float:
    """Returns the share of zeros among all weights of `layers`; 0 where there are none."""
    count = sum(layer.weights for layer in layers)
    return sum(layer.share * layer.weights for layer in layers) / count if count else 0.0


def keeps(zeros: Mask, axis: int, most: int, among: int) -> bool:
    """Says whether of every `among` neighbours along `axis` at most `most` are not zero; a shorter rest may be dense.

    Weights with fewer than `among` along the axis keep to no pattern.
    """
    if zeros.shape[axis] < among:
        return False
    kept = among - _blocks(zeros, axis, among).sum(-1)
    return bool((kept <= most).all())


def n_of_m(weights: NDArray[Any], axis: int, most: int, among: int) -> Mask:
    """Returns a mask of the `most` largest of every `among` neighbours along `axis`; a shorter rest is kept whole.

    Of equals the first are kept.
    """
    magnitude = np.abs(np.moveaxis(weights, axis, -1).astype(np.float64))
    whole = magnitude.shape[-1] // among * among
    mask = np.ones(magnitude.shape, bool)
    blocks = magnitude[..., :whole].reshape(*magnitude.shape[:-1], -1, among)
    order = np.argsort(-blocks, axis=-1, kind="stable")
    chosen = np.zeros(blocks.shape, bool)
    np.put_along_axis(chosen, order[..., :most], True, axis=-1)
    mask[..., :whole] = chosen.reshape(*magnitude.shape[:-1], whole)
    return np.ascontiguousarray(np.moveaxis(mask, -1, axis))


def largest(scores: Mapping[str, NDArray[Any]], share: float) -> dict[str, Mask]:
    """Returns masks that leave out the `share` of lowest scores, over all arrays together.

    Exactly so many are left out; among equals those that come first in order.

    Args:
        scores: Name -> score of every weight.
        share: 0 to below 1.
    """
    flat = np.concatenate([np.asarray(array, np.float64).ravel() for array in scores.values()])
    mask = np.ones(flat.shape, bool)
    mask[np.argsort(flat, kind="stable")[: round(share * flat.size)]] = False
    ends = np.cumsum([array.size for array in scores.values()])[:-1]
    return {n: part.reshape(a.shape) for (n, a), part in zip(scores.items(), np.split(mask, ends), strict=True)}


def lamp(weights: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the score of every weight by which layers can be compared, and none is ever emptied.

    The square of a weight over the sum of all squares of its layer that are not smaller (Lee et al. 2021,
    "Layer-adaptive sparsity for the magnitude-based pruning").
    """
    squares = np.square(weights.astype(np.float64)).ravel()
    order = np.argsort(squares, kind="stable")
    beyond = np.cumsum(squares[order][::-1])[::-1]
    scores = np.empty_like(squares)
    scores[order] = squares[order] / np.maximum(beyond, np.finfo(np.float64).tiny)
    return scores.reshape(weights.shape)


def store(weight: Weight, array: NDArray[Any]) -> None:
    """Puts `array` in the place of the stored weights, in place; every layer that reads them sees it."""
    tensor = ir.tensor(np.ascontiguousarray(array, weight.array.dtype), name=weight.value.name)
    made = weight.value.producer()
    if made is not None:
        made.attributes.clear()
        made.attributes["value"] = ir.AttrTensor("value", tensor)
    weight.value.const_value = tensor


def selected(names: Sequence[str], patterns: Sequence[str]) -> frozenset[str]:
    """Returns those of `names` that a pattern fits: a name itself, `*` and `?` as in file names."""
    return frozenset(n for n in names if any(n == p or fnmatchcase(n, p) for p in patterns))


def _blocks(array: Mask, axis: int, among: int) -> Mask:
    moved = np.moveaxis(array, axis, -1)
    whole = moved.shape[-1] // among * among
    return moved[..., :whole].reshape(*moved.shape[:-1], -1, among)


def _layer(weight: Weight) -> LayerSparsity:
    zeros, axis = weight.zeros, _output_axis(weight)
    share = float(zeros.mean()) if zeros.size else 0.0
    others = tuple(i for i in range(zeros.ndim) if i != axis)
    return LayerSparsity(
        weight.node.name or "",
        weight.node.op_type,
        int(zeros.size),
        share,
        _pattern(weight, zeros, share),
        int(zeros.all(axis=others).sum()) if zeros.size else 0,
        int(zeros.shape[axis]) if zeros.ndim else 0,
    )


def _pattern(weight: Weight, zeros: Mask, share: float) -> str:
    if share < SPARSE:
        return ""
    for most, among in PATTERNS:
        if keeps(zeros, weight.axis, most, among):
            return f"{most}:{among}"
    return UNSTRUCTURED


def _output_axis(weight: Weight) -> int:
    rank = weight.array.ndim
    if weight.node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
        return 0
    if weight.node.op_type == "ConvTranspose" or weight.node.op_type in _RECURRENT:
        return 1
    return rank - 1 if weight.axis == rank - 2 else rank - 2


def _stored(node: ir.Node, index: int) -> Weight | None:
    """Walks back from an input to the constant behind it; the order of axes is followed through transposes."""
    value, order, zero = node.inputs[index], None, np.zeros(())
    while value is not None and (made := value.producer()) is not None and numbers(value) is None:
        if made.op_type not in _PASSED or (made.op_type == "Transpose" and zero.ndim):
            return None
        if made.op_type == "Transpose":
            order = _through(made, value, order)
        elif made.op_type in (DEQUANTIZE, QUANTIZE):
            zero = _zero_point(made) if made.op_type == DEQUANTIZE else np.zeros(())
        value = made.inputs[0]
    array = numbers(value)
    if value is None or array is None or array.ndim < 2 or array.dtype.kind not in "fiuV":
        return None
    if node.op_type in _DIRECT_ZEROS:
        zero = _direct_zero(node, array.ndim)
    axis = _summed(node, array.ndim)
    return Weight(node, value, array, zero, axis if order is None else order[axis])


_PASSED = frozenset({"Transpose", "Identity", "Cast", DEQUANTIZE, QUANTIZE})
"""What may stand between stored weights and their layer."""


def _through(transpose: ir.Node, value: ir.Value, order: list[int] | None) -> list[int]:
    """Returns, for every axis that the layer sees, the axis before `transpose`."""
    rank = len(value.shape) if value.shape is not None else 2
    perm = list(transpose.attributes.get_ints("perm", tuple(reversed(range(rank)))))
    return perm if order is None else [perm[axis] for axis in order]


def _zero_point(node: ir.Node) -> NDArray[Any]:
    zero = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    if zero is None or zero.ndim == 0 or zero.size == 1:
        return np.zeros(()) if zero is None else zero.reshape(())
    integers = node.inputs[0]
    rank = len(integers.shape) if integers is not None and integers.shape is not None else 2
    axis = int(node.attributes.get_int("axis", 1)) % rank
    if zero.ndim > 1:
        return np.repeat(zero, int(node.attributes.get_int("block_size", 1)), axis=axis)
    return zero.reshape([-1 if i == axis else 1 for i in range(rank)])


def _direct_zero(node: ir.Node, rank: int) -> NDArray[Any]:
    index = _DIRECT_ZEROS[node.op_type]
    zero = numbers(node.inputs[index]) if len(node.inputs) > index else None
    if zero is None or zero.size == 1:
        return np.zeros(()) if zero is None else zero.reshape(())
    return zero.reshape(-1, *[1] * (rank - 1)) if "Conv" in node.op_type else zero


def _summed(node: ir.Node, rank: int) -> int:
    """Returns the axis of the weights, as the layer sees them, that it sums over."""
    if "Conv" in node.op_type:
        return 0 if node.op_type == "ConvTranspose" else 1
    if node.op_type in _RECURRENT:
        return 2
    if node.op_type == "Gemm" and int(node.attributes.get_int("transB", 0)):
        return 1
    return rank - 2
