"""A space-to-depth stem (four strided Slices, Concat, Conv: YOLO's "Focus") as one strided Conv.

Each output of the Conv reads the same pixels with the same weights, so the two graphs compute the same sums; the folded
one moves no data and does not pad 12 channels to the runtime's block of 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer


@dataclass(frozen=True, slots=True)
class _Phase:
    """`source` taken every `step` pixels from `offset`, both (rows, columns)."""

    source: ir.Value
    offset: tuple[int, int]
    step: tuple[int, int]


def fold_space_to_depth(graph: ir.Graph) -> int:
    """Folds every stem found, in place; the old nodes stay, unused.

    Returns:
        How many were folded.
    """
    return sum(_fold(graph, node) for node in list(graph) if node.op_type == "Conv" and node.domain == "")


def _fold(graph: ir.Graph, conv: ir.Node) -> bool:
    concat = conv.inputs[0].producer() if conv.inputs[0] is not None else None
    if concat is None or concat.op_type != "Concat" or _int(concat, "axis", 0) not in (1, -3):
        return False
    phases = [_phase(value) for value in concat.inputs]
    kernel = conv.inputs[1]
    weights = None if kernel is None else ir.convenience.get_const_tensor(kernel)
    if kernel is None or weights is None or not _foldable(conv, phases, weights.numpy()):
        return False
    known = [p for p in phases if p is not None]
    source, step = known[0].source, known[0].step
    folded = _spread(weights.numpy(), known, step)
    value = add_initializer(graph, f"{kernel.name}/space_to_depth", folded)
    conv.replace_input_with(0, source)
    conv.replace_input_with(1, value)
    _restride(conv, folded.shape, step)
    return True


def _foldable(conv: ir.Node, phases: list[_Phase | None], weights: NDArray[Any]) -> bool:
    first = phases[0]
    if first is None or weights.ndim != 4 or first.source.shape is None or len(first.source.shape) != 4:
        return False
    rows, columns = first.step
    wanted = {(r, c) for r in range(rows) for c in range(columns)}
    same = all(p is not None and p.source is first.source and p.step == first.step for p in phases)
    offsets = [p.offset for p in phases if p is not None]
    channels, height, width = (first.source.shape[i] for i in (1, 2, 3))
    divisible = isinstance(height, int) and isinstance(width, int) and height % rows == 0 and width % columns == 0
    plain = _int(conv, "group", 1) == 1 and _ints(conv, "dilations", (1, 1)) == (1, 1) and "auto_pad" not in _set(conv)
    complete = len(offsets) == len(wanted) and set(offsets) == wanted and rows * columns > 1
    return same and complete and divisible and plain and weights.shape[1] == len(wanted) * _number(channels)


def _spread(weights: NDArray[Any], phases: list[_Phase], step: tuple[int, int]) -> NDArray[Any]:
    outputs, joined, height, width = weights.shape
    channels = joined // len(phases)
    folded = np.zeros((outputs, channels, height * step[0], width * step[1]), weights.dtype)
    for index, phase in enumerate(phases):
        part = weights[:, index * channels : (index + 1) * channels]
        folded[:, :, phase.offset[0] :: step[0], phase.offset[1] :: step[1]] = part
    return folded


def _restride(conv: ir.Node, shape: tuple[int, ...], step: tuple[int, int]) -> None:
    strides = _ints(conv, "strides", (1, 1))
    pads = _ints(conv, "pads", (0, 0, 0, 0))
    conv.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", list(shape[2:]))
    conv.attributes["strides"] = ir.AttrInt64s("strides", [s * f for s, f in zip(strides, step, strict=True)])
    conv.attributes["pads"] = ir.AttrInt64s("pads", [p * f for p, f in zip(pads, step * 2, strict=True)])


def _phase(value: ir.Value | None) -> _Phase | None:
    """Follows strided Slices over rows and columns back to their source."""
    offset, step = [0, 0], [1, 1]
    while value is not None and (node := value.producer()) is not None and node.op_type == "Slice":
        taken = _strided(node)
        if taken is None:
            return None
        for axis, start, stride in taken:
            if step[axis] != 1:
                return None
            offset[axis], step[axis] = start, stride
        value = node.inputs[0]
    if value is None or step == [1, 1]:
        return None
    return _Phase(value, (offset[0], offset[1]), (step[0], step[1]))


def _strided(node: ir.Node) -> list[tuple[int, int, int]] | None:
    """Returns (0 rows or 1 columns, start, stride) per axis of a Slice that runs to the end, else None."""
    constants = [_constant(node, i) for i in range(1, 5)]
    starts, ends, axes, steps = constants
    if starts is None or ends is None or axes is None or steps is None:
        return None
    taken = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = node.inputs[0].shape[axis] if node.inputs[0] is not None and node.inputs[0].shape is not None else None
        if axis not in (2, 3) or not isinstance(size, int) or end < size or not 0 <= start < step:
            return None
        taken.append((axis - 2, start, step))
    return taken


def _constant(node: ir.Node, index: int) -> list[int] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else [int(v) for v in tensor.numpy().reshape(-1)]


def _set(node: ir.Node) -> set[str]:
    return {k for k, a in node.attributes.items() if not (k == "auto_pad" and a.value == "NOTSET")}


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes.get_int(name, default) or default


def _ints(node: ir.Node, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints(name, default) or default)


def _number(size: Any) -> int:
    return size if isinstance(size, int) else -1
