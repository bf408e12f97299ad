"""Rules about weights, constants and the operators that hold them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgewright.graph.placement import has_weights, is_depthwise
from edgewright.graph.risks.sight import Hit, Sight
from edgewright.graph.schemes.predict import FLOAT

LARGE_TABLE = 4 << 20
"""Bytes from which a table of embeddings counts in the size of a model."""
LARGE_SHARE = 0.5
"""Or the share of all weights."""
FEW_CHANNELS = 8
LARGEST_HALF = 65504.0
OVERFLOW = ("Exp", "Pow", "ReduceSumSquare", "ReduceL2", "ReduceSum", "CumSum")
"""Operators whose results leave the range of float16 with ordinary inputs."""


def embeddings(sight: Sight) -> Iterator[Hit]:
    """Large tables that are only looked up in."""
    total = sum(t.nbytes for v in sight.graph.initializers.values() if (t := v.const_value) is not None) or 1
    for node in sight.having("Gather"):
        table = node.inputs[0]
        size = table.const_value.nbytes if table is not None and table.const_value is not None else 0
        if size >= LARGE_TABLE or (size >= LARGE_TABLE // 4 and size >= LARGE_SHARE * total):
            yield Hit((node.name or "",), f"{size / 2**20:.1f} MB, {size / total:.0%} of the weights")


def narrow_groups(sight: Sight) -> Iterator[Hit]:
    """Grouped convolutions with few channels in each group, the depthwise ones left out."""
    for node in sight.having("Conv", "ConvTranspose"):
        groups = node.attributes.get_int("group", 1) or 1
        weights = node.inputs[1] if len(node.inputs) > 1 else None
        if groups < 2 or weights is None or weights.shape is None or is_depthwise(node):
            continue
        each = weights.shape[1]
        if isinstance(each, int) and each < FEW_CHANNELS:
            yield Hit((node.name or "",), f"{groups} groups of {each} channels")


def depthwise(sight: Sight) -> Iterator[Hit]:
    """Depthwise convolutions that stay float, or whose channels share one scale of weights."""
    for node in sight.having("Conv"):
        if not is_depthwise(node) or sight.scheme is None:
            continue
        if sight.kinds.get(node.name or "") == FLOAT:
            yield Hit((node.name or "",), "runs in float")
        elif not sight.scheme.weight_per_channel or "Conv" in sight.scheme.per_tensor_ops:
            yield Hit((node.name or "",), "one scale for the weights of all channels")


def narrow_channels(sight: Sight) -> Iterator[Hit]:
    """Convolutions whose channels do not fill the tiles of tensor cores, the first one left out."""
    for node in sight.having("Conv"):
        weights = node.inputs[1] if len(node.inputs) > 1 else None
        shape = weights.shape if weights is not None else None
        if shape is None or is_depthwise(node) or node.inputs[0] in sight.graph.inputs:
            continue
        odd = [size for size in tuple(shape)[:2] if isinstance(size, int) and size % FEW_CHANNELS]
        if odd:
            yield Hit((node.name or "",), f"{odd[0]} channels")


def transposed(sight: Sight) -> Iterator[Hit]:
    """Transposed convolutions that the scheme leaves in float."""
    for node in sight.having("ConvTranspose"):
        if sight.kinds.get(node.name or "") == FLOAT:
            yield Hit((node.name or "",), "runs in float")


def two_activations(sight: Sight) -> Iterator[Hit]:
    """Products of two activations: attention."""
    for node in sight.having("MatMul", "Einsum", "Attention"):
        if not has_weights(node) and sight.kinds.get(node.name or "") == FLOAT:
            yield Hit((node.name or "",), f"{node.op_type} runs in float")


def large_constants(sight: Sight) -> Iterator[Hit]:
    """Constants beyond the range of float16, e.g. -1e9 in a mask."""
    for node in sight.graph:
        if any(_beyond_half(value) for value in node.inputs):
            yield Hit((node.name or "",), f"a constant beyond {LARGEST_HALF:g} becomes infinite")


def overflowing(sight: Sight) -> Iterator[Hit]:
    """Operators whose results easily leave the range of float16."""
    yield from (Hit((node.name or "",), node.op_type) for node in sight.having(*OVERFLOW) if _floats(node))


def _floats(node: ir.Node) -> bool:
    return bool(node.outputs) and node.outputs[0].dtype == ir.DataType.FLOAT


def _beyond_half(value: ir.Value | None) -> bool:
    tensor = value.const_value if value is not None else None
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or not tensor.size:
        return False
    numbers = np.abs(tensor.numpy())
    finite = numbers[np.isfinite(numbers)]
    return bool(finite.size and finite.max() > LARGEST_HALF)
