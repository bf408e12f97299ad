"""What the compressed constants of an ML program stand for.

Source: MIL operations `constexpr_*` of iOS 16 and iOS 18 (Core ML Tools, MIL Ops API reference).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.targets._coreml.blob import unpacked
from edgewright.targets._coreml.program import Constant, Operation, Program

Floats = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A constant tensor as an operation reads it.

    Attributes:
        name: Of the value.
        form: `float32`, `float16`, `int8`, `palette of 4 bits`...
        real: The numbers it stands for.
        size: Bytes that all its parts take in the file of weights.
        levels: Different values that a palette may hold; 0 for other forms.
    """

    name: str
    form: str
    real: NDArray[Any]
    size: int
    levels: int = 0


def weights(program: Program) -> dict[str, Weight]:
    """Returns every constant of `program` by the name of its value, decoded."""
    found: dict[str, Weight] = {}
    for operation in program.operations:
        name = operation.outputs[0][0] if operation.outputs else ""
        if operation.op == "const":
            value = _only(operation, "val")
            if isinstance(value.value, np.ndarray):
                found[name] = Weight(name, value.dtype, value.value, value.size)
        elif operation.op in _DECODED:
            found[name] = _decoded(operation, name, found)
    return found


def _decoded(operation: Operation, name: str, known: Mapping[str, Weight]) -> Weight:
    parts = {key: _part(values[0], known) for key, values in operation.inputs.items()}
    size = sum(part.size for part in parts.values())
    form, real = _DECODED[operation.op]({key: part.value for key, part in parts.items()}, operation.outputs[0][2])
    levels = int(form.split()[2]) if form.startswith("palette") else 0
    return Weight(name, form or parts["data"].dtype, real, size, 2**levels if levels else 0)


def _part(value: str | Constant, known: Mapping[str, Weight]) -> Constant:
    if isinstance(value, Constant):
        return value
    weight = known[value]
    return Constant(weight.real, weight.form, 0, weight.size)


def _only(operation: Operation, key: str) -> Constant:
    value = operation.inputs[key][0]
    assert isinstance(value, Constant), operation
    return value


Parts = Mapping[str, Any]


def _affine(parts: Parts, shape: tuple[int, ...]) -> tuple[str, Floats]:
    data, scale, point = (np.asarray(parts[key]) for key in ("quantized_data", "scale", "zero_point"))
    along = [1] * data.ndim
    along[int(parts["axis"])] = -1
    wide = np.float64 if scale.dtype != np.float16 else np.float32
    scales, points = (np.asarray(n, wide).reshape(along if n.ndim else ()) for n in (scale, point))
    real: Floats = np.multiply(np.subtract(data, points, dtype=wide), scales)
    return str(data.dtype), real.astype(scale.dtype)


def _blockwise(parts: Parts, shape: tuple[int, ...]) -> tuple[str, Floats]:
    data, scale = np.asarray(parts["data"]), np.asarray(parts["scale"])
    point = np.asarray(parts["offset"]) if parts.get("offset") is not None else np.zeros(scale.shape, np.int8)
    for axis, (whole, blocks) in enumerate(zip(data.shape, scale.shape, strict=True)):
        scale, point = (np.repeat(n, whole // blocks, axis) for n in (scale, point))
    return "", ((data.astype(np.float64) - point) * scale).astype(scale.dtype)


def _table(parts: Parts, shape: tuple[int, ...]) -> tuple[str, Floats]:
    table, indices = np.asarray(parts["lut"]), np.asarray(parts["indices"])
    if "shape" in parts:  # iOS 16: one table of scalars, indices packed
        bits = round(math.log2(table.size))
        numbers = unpacked(indices.reshape(-1), bits, math.prod(shape)) if bits < 8 else indices
        return f"palette of {bits} bits", table.reshape(-1)[numbers].reshape(shape)
    bits, groups = round(math.log2(table.shape[-2])), table.shape[:-2]
    flat = indices
    for axis, (whole, count) in enumerate(zip(indices.shape, groups, strict=True)):
        group = np.arange(whole) // (whole // count)
        flat = flat + group.reshape([-1 if at == axis else 1 for at in range(indices.ndim)]) * (
            math.prod(groups[axis + 1 :]) * 2**bits
        )
    return f"palette of {bits} bits", table.reshape(-1)[flat]


def _cast(parts: Parts, shape: tuple[int, ...]) -> tuple[str, Floats]:
    source = np.asarray(parts["source_val"])
    return str(source.dtype), source.astype({"fp32": np.float32, "fp16": np.float16}[parts["output_dtype"]])


_DECODED: Mapping[str, Callable[[Parts, tuple[int, ...]], tuple[str, Floats]]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_lut_to_dense": _table,
    "constexpr_cast": _cast,
}
