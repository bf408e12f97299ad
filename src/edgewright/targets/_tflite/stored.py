"""What constants behind quantisers say: their parameters, and their real values."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.affine import dequantise
from edgewright.graph.quantisers import DEQUANTIZE, numbers
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.file import Quantisation


def parameters(node: ir.Node) -> Quantisation:
    """Returns the parameters of a QuantizeLinear or DequantizeLinear."""
    scale = numbers(node.inputs[1])
    if scale is None:
        raise StepFailed(
            f"{node.op_type} {node.name}: its scale is computed, TensorFlow Lite needs a constant",
            hint="quantise statically: calibrate, then the pass static-int8",
        )
    scale = scale.reshape(-1)
    stored = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    zero = [0] * scale.size if stored is None else stored.reshape(-1)
    axis = node.attributes.get_int("axis", 1) if scale.size > 1 else None
    return Quantisation(tuple(map(float, scale)), tuple(map(int, zero)), axis)


def real(value: ir.Value) -> NDArray[Any] | None:
    """Returns the value of a constant, dequantised where it is stored as integers; None for anything computed."""
    array = numbers(value)
    node = value.producer()
    if array is not None or node is None or node.op_type != DEQUANTIZE:
        return array
    integers = numbers(node.inputs[0])
    if integers is None:
        return None
    found = parameters(node)
    return dequantise(integers, found.scale, found.zero_point, found.axis)


def shape_of(value: ir.Value | None) -> tuple[int, ...]:
    """Returns the shape of a value.

    Raises:
        StepFailed: It is not known.
    """
    found = static_shape(value)
    if found is None:
        name = value.name if value is not None else "nothing"
        raise StepFailed(
            f'the shape of "{name}" is not known: a TensorFlow Lite file has fixed sizes',
            hint="export with fixed sizes, or clean the model up first",
        )
    return found


def dtype_of(value: ir.Value) -> str:
    """Returns NumPy's name of the type of a value."""
    if value.dtype is None:
        raise StepFailed(f'the type of "{value.name}" is not known', hint="clean the model up first")
    name = str(value.dtype.numpy().name)
    if name in ("float16", "float64", "bfloat16"):
        raise StepFailed(
            f'"{value.name}" is {name}: kernels of TensorFlow Lite compute in float32',
            hint="export the model in float32; the file may store float16 weights",
        )
    return name
