"""The stem of YOLOv5 and YOLOX: every second row and column in four slices, joined as channels, is SpaceToDepth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, numbers
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.spatial import reordered, stored


@dataclass(frozen=True, slots=True)
class _Tap:
    """A part of an image.

    Attributes:
        source: The image.
        starts: First row and column.
        steps: Between rows and columns.
    """

    source: ir.Value
    starts: tuple[int, int]
    steps: tuple[int, int]


def concat(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """Joins the slices; the convolution that reads them takes its input channels in the other order."""
    taps = [_tap(value) for value in node.inputs if value is not None]
    block = round(len(taps) ** 0.5)
    first = taps[0] if taps else None
    if first is None or block < 2 or block**2 != len(taps) or node.attributes.get_int("axis", 0) != 1:
        return None
    shape = static_shape(first.source)
    if shape is None or len(shape) != 4 or shape[2] % block or shape[3] % block:
        return None
    if any(tap is None or tap.source is not first.source or tap.steps != (block, block) for tap in taps):
        return None
    places = [tap.starts[0] * block + tap.starts[1] for tap in taps if tap is not None]
    if sorted(places) != list(range(block**2)) or not _reads_reordered(lowering, node, places, shape[1]):
        return None
    return [lowering.at(node).add("SpaceToDepth", [first.source], blocksize=block)]


def _tap(value: ir.Value) -> _Tap | None:
    """Follows a value back through slices, and through quantisers that all say the same."""
    source, starts, steps = None, [0, 0], [1, 1]
    scales: set[tuple[float, int]] = set()
    current: ir.Value | None = value
    while current is not None and (node := current.producer()) is not None:
        if node.op_type == "Slice":
            if not _add_slice(node, starts, steps):
                return None
            source = node.inputs[0]
        elif node.op_type in (QUANTIZE, DEQUANTIZE) and (said := _parameters(node)) is not None:
            scales.add(said)
        else:
            break
        current = node.inputs[0]
    if source is None or len(scales) > 1:
        return None
    return _Tap(source, (starts[0], starts[1]), (steps[0], steps[1]))


def _add_slice(node: ir.Node, starts: list[int], steps: list[int]) -> bool:
    """Adds a slice of whole rows or columns to those behind it; says whether it is one."""
    shape = static_shape(node.inputs[0])
    given = [numbers(node.inputs[i]) if i < len(node.inputs) else None for i in range(1, 5)]
    if shape is None or len(shape) != 4 or given[0] is None or given[1] is None or given[2] is None:
        return False
    strides = np.ones(given[0].size, np.int64) if given[3] is None else given[3]
    each = zip(*(array.reshape(-1).tolist() for array in (given[0], given[1], given[2], strides)), strict=True)
    for start, end, axis, step in each:
        place, size = axis % 4 - 2, shape[axis % 4]
        if place < 0 or step < 1 or start < 0 or min(end, size) != size:
            return False
        starts[place] = start + starts[place] * step
        steps[place] *= step
    return True


def _parameters(node: ir.Node) -> tuple[float, int] | None:
    scale = numbers(node.inputs[1])
    zero = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1:
        return None
    return float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0])


def _reads_reordered(lowering: Lowering, node: ir.Node, places: Sequence[int], channels: int) -> bool:
    """Turns the input channels of the only reader, a convolution; says whether the order is right now."""
    if list(places) == sorted(places):
        return True
    reader = _reader(node.outputs[0])
    if reader is None or reader.op_type != "Conv" or (reader.attributes.get_int("group", 1) or 1) > 1:
        return False
    weights = reader.inputs[1]
    if weights is None or not stored(weights):
        return False
    order = np.concatenate([np.arange(channels) + places.index(block) * channels for block in range(len(places))])
    lowering.at(reader)
    reader.replace_input_with(1, reordered(lowering, weights, order, axis=1))
    return True


def _reader(value: ir.Value) -> ir.Node | None:
    """Returns the one node that reads a value, through quantisers."""
    while len(value.uses()) == 1 and not value.is_graph_output():
        node: ir.Node = next(iter(value.uses())).node
        if node.op_type not in (QUANTIZE, DEQUANTIZE):
            return node
        value = node.outputs[0]
    return None


RULES: Mapping[str, Rule] = {"Concat": concat}
