"""Reads what the quantisers of a graph say: one pair, or one stored constant, per dequantised value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
DEQUANTISED = "/dequantised"
"""Suffix of what a DequantizeLinear of ours writes."""


@dataclass(frozen=True, slots=True)
class Quantiser:
    """What stands behind one DequantizeLinear.

    Attributes:
        node: The DequantizeLinear.
        pair: The QuantizeLinear before it; None for integers that are stored or given.
        source: What is quantised: an activation, a float constant, or stored integers.
        dtype: NumPy's name of the integers' type.
        scale: float32, a scalar or one per channel; None where it is not constant.
        zero_point: As many as scales.
        axis: Channel axis, never negative; None for per-tensor.
        constant: Whether `source` is known before the model runs.
    """

    node: ir.Node
    pair: ir.Node | None
    source: ir.Value
    dtype: str
    scale: NDArray[Any] | None
    zero_point: NDArray[Any]
    axis: int | None
    constant: bool

    @property
    def tensor(self) -> str:
        """Name of the float tensor, as a plan calls it."""
        result = self.node.outputs[0]
        if self.pair is None or result.is_graph_output():
            return (result.name or "").removesuffix(DEQUANTISED)
        return self.source.name or ""

    def integers(self) -> NDArray[Any] | None:
        """Returns the stored integers; None for activations and for constants that are stored as floats."""
        return numbers(self.source) if self.constant and self.pair is None else None


@dataclass(frozen=True, slots=True)
class Numbers:
    """Scale and zero point of a per-tensor quantiser, comparable; `dtype` is the type of its integers."""

    dtype: str
    scale: float
    zero: int

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest real value that the integers can say."""
        info = np.iinfo(self.dtype)
        return (int(info.min) - self.zero) * self.scale, (int(info.max) - self.zero) * self.scale


def numbers_of(found: Quantiser | None) -> Numbers | None:
    """Returns what a per-tensor quantiser of an activation or constant says, None for any other."""
    if found is None or found.scale is None or found.scale.size != 1:
        return None
    return Numbers(found.dtype, float(found.scale.reshape(-1)[0]), int(found.zero_point.reshape(-1)[0]))


def numbers_of_quantize(node: ir.Node) -> Numbers | None:
    """Returns what a QuantizeLinear says."""
    scale = numbers(node.inputs[1])
    zero = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1:
        return None
    return Numbers(dtype_of(node), float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0]))


def numbers(value: ir.Value | None) -> NDArray[Any] | None:
    """Returns the values of an initialiser or of the output of a Constant, None for everything else."""
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: ir.Value | None) -> bool:
    """Says whether `value` is known before the model runs."""
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def behind(value: ir.Value | None) -> Quantiser | None:
    """Returns the quantiser that `value` comes straight from, None if it does not come from one."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != DEQUANTIZE or node.inputs[0] is None:
        return None
    integers = node.inputs[0]
    made = integers.producer()
    pair = made if made is not None and made.op_type == QUANTIZE else None
    source = integers if pair is None else pair.inputs[0]
    if source is None:
        return None
    scale, zero = numbers(node.inputs[1]), numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    size = 1 if scale is None else scale.size
    zeros = np.zeros(() if scale is None else scale.shape, np.int64) if zero is None else zero.astype(np.int64)
    axis = axis_of(node, integers) if size > 1 else None
    return Quantiser(node, pair, source, dtype_of(pair or node), scale, zeros, axis, is_constant(source))


def one_sided(node: ir.Node) -> Quantiser | None:
    """Returns what a QuantizeLinear says whose integers nobody turns back."""
    source = node.inputs[0]
    if source is None:
        return None
    scale, zero = numbers(node.inputs[1]), numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    zeros = np.zeros((), np.int64) if zero is None else zero.astype(np.int64)
    axis = axis_of(node, source) if scale is not None and scale.size > 1 else None
    return Quantiser(node, node, source, dtype_of(node), scale, zeros, axis, is_constant(source))


def all_quantisers(graph: ir.Graph) -> Iterator[Quantiser]:
    """Yields one for every DequantizeLinear, in graph order."""
    for node in graph:
        if node.op_type == DEQUANTIZE and (found := behind(node.outputs[0])) is not None:
            yield found


def axis_of(node: ir.Node, value: ir.Value) -> int:
    """Returns the channel axis of a quantiser, counted from the front."""
    axis = node.attributes.get_int("axis", 1)
    axis = 1 if axis is None else axis
    rank = len(value.shape) if value.shape is not None else 0
    return axis % rank if rank else axis


def dtype_of(node: ir.Node) -> str:
    """Returns the type of the integers that a quantiser writes or reads."""
    if node.op_type == DEQUANTIZE:
        return _type(node.inputs[0]) or zero_type(node) or "uint8"
    said = node.attributes.get_int("output_dtype", 0)
    named = str(ir.DataType(said).numpy().name) if said else ""
    return zero_type(node) or named or _type(node.outputs[0]) or "uint8"


def zero_type(node: ir.Node) -> str:
    """Returns the type of the zero point of a quantiser; empty where it has none."""
    return _type(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else ""


def _type(value: ir.Value | None) -> str:
    if value is None:
        return ""
    tensor = ir.convenience.get_const_tensor(value)
    kind = tensor.dtype if tensor is not None else value.dtype
    return str(kind.numpy().name) if kind is not None else ""
