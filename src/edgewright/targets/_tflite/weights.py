"""Weights and biases becoming constants of the file: stored integers in another order, halves, or floats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.quantisers import Quantiser, behind, numbers
from edgewright.targets._tflite.dynamic import DYNAMIC
from edgewright.targets._tflite.file import Quantisation, Tensor
from edgewright.targets._tflite.stored import dtype_of, parameters, real, shape_of

if TYPE_CHECKING:
    from edgewright.targets._tflite.emission import Emission

_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Change:
    """Something done to the array of constant weights; `name` tells it from others done to the same weights."""

    name: str
    apply: Callable[[NDArray[Any]], NDArray[Any]]


def emit_weights(
    e: Emission, node: ir.Node, value: ir.Value, perm: tuple[int, ...], hybrid: bool, change: Change | None
) -> int:
    """Returns the tensor of weights; see `Emission.weights`."""
    order = perm or tuple(range(len(shape_of(value))))
    found = behind(value)
    integers = None if found is None else numbers(found.node.inputs[0])
    whole = e.is_integer(node)
    if found is not None and integers is not None and (whole or (e.options.hybrid and _symmetric(found.node))):
        made = _reordered(e, value, found, integers, order, change)
        dynamic = hybrid and (found.node.name or "").endswith(DYNAMIC)
        return made if whole or dynamic else _unpacked(e, made)
    array = real(value)
    if array is not None:
        array = _changed(array.transpose(order), change)
        half = e.options.weights == "float16" and array.size > 1
        return halved(e, value, array) if half else e.const(array, value.name or "weights")
    if change is not None:
        raise StepFailed(
            f"{node.op_type} {node.name}: computed weights, its form here needs constant ones",
            hint="fold the weights into constants, or leave this target out",
        )
    return _turned(e, node, value, order)


def emit_bias(e: Emission, node: ir.Node, value: ir.Value | None, data: int, weights: int, channels: int) -> int:
    """Returns the tensor of a bias; see `Emission.bias`."""
    name = f"{node.name}/bias" if value is None else value.name or f"{node.name}/bias"
    if e.is_integer(node):
        return _integer_bias(e, value, name, e.tensor(data), e.tensor(weights), channels)
    array = np.zeros(channels, np.float32) if value is None else real(value)
    if array is None and value is not None:
        return e.read(value, integer=False)
    assert array is not None
    return e.const(array.astype(np.float32), name)


def halved(e: Emission, value: ir.Value, array: NDArray[Any]) -> int:
    """Returns a constant stored as float16 and unpacked by the runtime; float32 where it does not fit."""
    with np.errstate(over="ignore"):
        short = array.astype(np.float16)
    if not np.isfinite(short).all():
        return e.const(array, value.name or "constant")
    stored = e.const(short, f"{value.name}/float16")
    made = e.file.tensor(value.name or "constant", "float32", array.shape)
    e.op("DEQUANTIZE", [stored], [made], "DequantizeOptions")
    return made


def _reordered(
    e: Emission,
    value: ir.Value,
    found: Quantiser,
    integers: NDArray[Any],
    order: tuple[int, ...],
    change: Change | None,
) -> int:
    was = parameters(found.node)
    axis = None if was.axis is None else order.index(was.axis % len(order))
    stored = _changed(integers.transpose(order), change)
    axis = axis + stored.ndim - len(order) if axis else axis
    copies = 1 if axis is None else stored.shape[axis] // len(was.scale)
    turned = Quantisation(was.scale * copies, was.zero_point * copies, axis)
    return e.const(stored, value.name or "weights", turned)


def _unpacked(e: Emission, stored: int) -> int:
    """Returns stored integers as floats, which the runtime computes once."""
    tensor = e.tensor(stored)
    made = e.file.tensor(f"{tensor.name}/real", "float32", tensor.shape)
    e.op("DEQUANTIZE", [stored], [made], "DequantizeOptions")
    return made


def _turned(e: Emission, node: ir.Node, value: ir.Value, order: tuple[int, ...]) -> int:
    data = e.read(value, integer=e.is_integer(node))
    if order == tuple(range(len(order))):
        return data
    made = e.temp(data, [shape_of(value)[axis] for axis in order], f"{value.name}/transposed")
    e.op("TRANSPOSE", [data, e.const(np.asarray(order, np.int32), "perm")], [made], "TransposeOptions")
    return made


def _integer_bias(e: Emission, value: ir.Value | None, name: str, data: Tensor, weights: Tensor, channels: int) -> int:
    assert data.quantisation is not None
    assert weights.quantisation is not None
    scale = np.float32(data.quantisation.scale[0]) * np.asarray(weights.quantisation.scale, np.float32)
    kind = np.int64 if data.dtype == "int16" else np.int32
    stored = None if value is None else behind(value)
    integers = None if stored is None else numbers(stored.node.inputs[0])
    if stored is not None and integers is not None and _close(parameters(stored.node), scale):
        array = integers.astype(kind)
        scale = np.asarray(parameters(stored.node).scale, np.float32)
    else:
        found = np.zeros(channels, np.float32) if value is None else real(value)
        assert found is not None
        array = np.rint(found.astype(np.float64).reshape(-1) / scale).astype(kind)
    array = np.broadcast_to(array.reshape(-1), (channels,))
    made = Quantisation(tuple(map(float, scale)), (0,) * scale.size, None if scale.size == 1 else 0)
    return e.const(array, name, made)


def _changed(array: NDArray[Any], change: Change | None) -> NDArray[Any]:
    return np.ascontiguousarray(array if change is None else change.apply(array))


def _close(bias: Quantisation, product: NDArray[np.float32]) -> bool:
    """Says whether a bias has the scale that the kernel takes it to have, but for the rounding of a float32."""
    if len({len(bias.scale), product.size} - {1}) > 1 or any(bias.zero_point):
        return False
    return bool(np.allclose(bias.scale, product, rtol=_ROUNDING, atol=0))


def _symmetric(node: ir.Node) -> bool:
    stored = node.inputs[0]
    return stored is not None and dtype_of(stored) == "int8" and not any(parameters(node).zero_point)
