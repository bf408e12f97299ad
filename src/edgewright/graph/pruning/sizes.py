"""Sizes of every tensor with free axes bound to numbers, and who computes with the number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.graph.pruning.atoms import moves
from edgewright.graph.pruning.scene import Scene, integers, ints, operand
from edgewright.graph.shapes import bind_axes, static_shape

_BATCH = 3
"""Size of a free first axis; unlike 1 it cannot hide in a merged axis."""
_LENGTHS = ((64, 128), (32, 96), (16, 48), (224, 256), (320, 416), (512, 640))
"""Pairs of sizes tried for other free axes."""
_TARGETS = {("Reshape", 1), ("Expand", 1), ("Resize", 3), ("Upsample", 1), ("ConstantOfShape", 0)}
"""Inputs that say the sizes of a result: `remove` mends them."""
_MOVED = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of tensors by name.

    Attributes:
        bound: With numbers for free axes.
        other: With other numbers: where both agree, the size does not depend on the samples.
    """

    bound: Mapping[str, tuple[int, ...]]
    other: Mapping[str, tuple[int, ...]]


def bound_sizes(model: ir.Model) -> Sizes:
    """Returns the sizes that follow from the inputs, under two choices for the free axes."""
    axes = _free_axes(model)
    if not axes:
        found = _sizes(bind_axes(model, {}))
        return Sizes(found, found)
    tried = [_with(model, axes, one, other) for one, other in _LENGTHS[: 1 if not _lengths(axes) else None]]
    best = max((found for found in tried if found is not None), key=lambda found: len(found.bound), default=None)
    return best or Sizes({}, {})


def _with(model: ir.Model, axes: Mapping[str, bool], one: int, other: int) -> Sizes | None:
    try:
        first, second = (
            _sizes(bind_axes(model, {name: batch if leads else length for name, leads in axes.items()}, default=length))
            for batch, length in ((_BATCH, one), (_BATCH + 2, other))
        )
    except SourceError:
        return None
    return Sizes(first, {name: second.get(name, ()) for name in first})


def _free_axes(model: ir.Model) -> dict[str, bool]:
    """Returns the names of free axes, and whether each is a first one."""
    found: dict[str, bool] = {}
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            for place, axis in enumerate(value.shape or ()):
                if not isinstance(axis, int):
                    found.setdefault(axis.value or "", place == 0)
    return found


def _lengths(axes: Mapping[str, bool]) -> bool:
    return not all(axes.values())


def _sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    found = {value.name or "": static_shape(value) for value in values if value.name}
    return {name: shape for name, shape in found.items() if shape is not None}


def fix_read_sizes(graph: ir.Graph, scene: Scene) -> None:
    """Fixes channels whose number the graph computes with, other than to give a result its sizes."""
    for node in graph:
        if node.op_type == "Size":
            for labels in scene.of(node.inputs[0]):
                scene.fix(labels, node, "counts it")
        elif node.op_type == "Shape" and any(map(moves, scene.of(node.inputs[0]))):
            _fix_read(node, scene)


def _fix_read(node: ir.Node, scene: Scene) -> None:
    axes = scene.of(node.inputs[0])
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(axes))
    for axis in range(*slice(start, end).indices(len(axes))):
        if moves(axes[axis]):
            taint = np.arange(len(axes))[slice(start, end)] == axis
            reader = _reader(node.outputs[0], taint)
            if reader is not None:
                scene.fix(axes[axis], reader, "computes with its size")


def _reader(value: ir.Value, taint: NDArray[np.bool_]) -> ir.Node | None:
    """Returns the first node that does more with these elements than to pass them on as sizes of a result."""
    if value.is_graph_output():
        return value.producer()
    for use in value.uses():
        if (use.node.op_type, use.idx) in _TARGETS:
            continue
        passed = _passed(use.node, use.idx, taint)
        if passed is None:
            return use.node
        found = _reader(use.node.outputs[0], passed) if passed.any() else None
        if found is not None:
            return found
    return None


def _passed(node: ir.Node, index: int, taint: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Returns which elements of the result are the marked ones; None where that is not known."""
    if node.op_type in _MOVED and index == 0:
        return taint.reshape(-1)
    if node.op_type == "Gather" and index == 0:
        places = integers(operand(node, 1))
        return None if places is None else taint[places]
    if node.op_type == "Slice" and index == 0 and operand(node, 4) is None:
        starts, ends = ints(node, "starts", 1), ints(node, "ends", 2)
        return None if starts is None or ends is None else taint[int(starts[0]) : int(ends[0])]
    if node.op_type == "Concat":
        return _joined(node, index, taint)
    return None


def _joined(node: ir.Node, index: int, taint: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    parts = []
    for place, value in enumerate(node.inputs):
        shape = static_shape(value)
        if place != index and (shape is None or len(shape) != 1):
            return None
        parts.append(taint if place == index else np.zeros(shape[0] if shape else 0, bool))
    return np.concatenate(parts)
