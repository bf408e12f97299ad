"""What the model says, in the terms of a program made from it: constants as real numbers, scales of quantisers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.affine import dequantise
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, behind, numbers, numbers_of, numbers_of_quantize

_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})


@dataclass(frozen=True, slots=True)
class Quantised:
    """A quantiser of one scale.

    Attributes:
        dtype: Of its integers.
        scale: Real distance of two integers.
        zero: The integer that stands for 0.
        addends: Scales of what was added up to what is quantised. coremltools divides a sum and its quantiser by one
            of them, which then need not be multiplied with.
    """

    dtype: str
    scale: float
    zero: int
    addends: tuple[float, ...] = ()

    @property
    def lowest(self) -> int:
        """How many steps below 0 the smallest integer lies."""
        return self.zero - int(np.iinfo(self.dtype).min)


def quantised_by(node: ir.Node) -> Quantised | None:
    """Returns what a QuantizeLinear, or a DequantizeLinear of an activation, says; None for others."""
    found, pair = None, None
    if node.op_type == QUANTIZE:
        found, pair = numbers_of_quantize(node), node
    elif node.op_type == DEQUANTIZE:
        quantiser = behind(node.outputs[0])
        found, pair = numbers_of(quantiser), None if quantiser is None else quantiser.pair
    return None if found is None else Quantised(found.dtype, found.scale, found.zero, tuple(_addends(pair)))


def _addends(pair: ir.Node | None) -> Iterator[float]:
    """Yields the scales of quantised values that a sum in front of a QuantizeLinear adds up."""
    maker = pair.inputs[0].producer() if pair is not None and pair.inputs[0] is not None else None
    if maker is not None and maker.op_type in _ACTIVATIONS and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer()
    if maker is not None and maker.op_type in ("Add", "Sub"):
        for value in maker.inputs:
            found = numbers_of(behind(value))
            if found is not None:
                yield found.scale


def arrays_of(node: ir.Node) -> Iterator[NDArray[Any]]:
    """Yields constants that an operation made from `node` may read: its own, and those of what is joined with it."""
    yield from _own(node)
    for value in node.inputs:
        before = value.producer() if value is not None else None
        if before is None or before.op_type in (QUANTIZE, DEQUANTIZE):
            continue
        if node.op_type == "BatchNormalization":
            yield from _normalised(before, node)
        yield from _own(before)


def _own(node: ir.Node) -> Iterator[NDArray[Any]]:
    for value in node.inputs:
        array = real(value)
        if array is not None and array.dtype.kind in "fiu" and array.size:
            yield array.astype(np.float64)


def _normalised(product: ir.Node, norm: ir.Node) -> Iterator[NDArray[Any]]:
    """Yields weights and bias of a convolution that its batch norm was folded into."""
    parts = [real(value) for value in norm.inputs[1:5]]
    weights = real(product.inputs[1]) if product.op_type in _PRODUCTS and len(product.inputs) > 1 else None
    if weights is None or any(part is None for part in parts):
        return
    scale, shift, mean, variance = (np.asarray(part, np.float64) for part in parts)
    factor = scale / np.sqrt(variance + (norm.attributes.get_float("epsilon", 1e-5) or 0.0))
    axis = 1 if product.op_type == "ConvTranspose" else 0
    yield weights * factor.reshape([-1 if at == axis else 1 for at in range(weights.ndim)])
    bias = real(product.inputs[2]) if len(product.inputs) > 2 else None
    yield ((0.0 if bias is None else bias) - mean) * factor + shift


def real(value: ir.Value | None) -> NDArray[Any] | None:
    """Returns the numbers that a constant stands for, behind its quantiser or not; None for what is computed."""
    plain = numbers(value)
    if plain is not None:
        return plain
    found = behind(value)
    if found is None or not found.constant or found.scale is None:
        return None
    integers = found.integers()
    if integers is None:
        return numbers(found.source)
    return dequantise(integers, found.scale, found.zero_point, found.axis)
