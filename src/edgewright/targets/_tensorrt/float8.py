"""Quantisers of int8 as quantisers of float8 (E4M3) that cover the same ranges.

E4M3 ends at 448 (Micikevicius et al., "FP8 Formats for Deep Learning", 2022), int8 at 127: the scale shrinks by
127/448, so that the largest value of the plan's range is the largest number still. Ranges are not decided anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import Quantiser, all_quantisers

LARGEST = 448.0
_E4M3 = ir.DataType.FLOAT8E4M3FN


def in_float8(graph: ir.Graph) -> None:
    """Rewrites every int8 quantiser in place; stored weights are rounded to float8 from what they stand for."""
    for found in list(all_quantisers(graph)):
        if found.dtype == "int8" and found.scale is not None:
            _rewrite(graph, found, (found.scale * np.float32(127.0 / LARGEST)).astype(np.float32))
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _rewrite(graph: ir.Graph, found: Quantiser, scale: NDArray[Any]) -> None:
    name = f"{found.node.name}/float8"
    numbers = add_initializer(graph, f"{name}/scale", scale)
    zero = _constant(graph, f"{name}/zero", np.zeros(scale.shape, np.float32))
    integers = found.integers()
    if integers is not None:
        real = integers.astype(np.float32) * np.float32(LARGEST / 127.0)
        found.node.replace_input_with(0, _constant(graph, f"{name}/weights", real))
    for node in filter(None, (found.node, found.pair)):
        node.resize_inputs(3)
        node.replace_input_with(1, numbers)
        node.replace_input_with(2, zero)
    if found.pair is not None:
        found.pair.outputs[0].dtype = _E4M3


def _constant(graph: ir.Graph, name: str, values: NDArray[Any]) -> ir.Value:
    """Adds a float8 initialiser; `values` are in units of its scale."""
    numbers = np.clip(values, -LARGEST, LARGEST).astype(_E4M3.numpy())
    value = ir.Value(name=name, const_value=ir.tensor(numbers, dtype=_E4M3, name=name), type=ir.TensorType(_E4M3))
    value.shape = ir.Shape(numbers.shape)
    graph.register_initializer(value)
    return value
