"""Sizes of every tensor with free axes bound to numbers, and who computes with the number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from edgewright.errors import SourceError
from edgewright.graph.initializers import add_initializer
from edgewright.graph.opset import opset
from edgewright.graph.pruning.atoms import moves
from edgewright.graph.pruning.scene import Scene, integers, ints, operand, words
from edgewright.graph.shapes import bind_axes, infer_shapes, static_shape

_BATCH = 3
"""Size of a free first axis; unlike 1 it cannot hide in a merged axis."""
_LENGTHS = ((64, 128), (32, 96), (16, 48), (224, 256), (320, 416), (512, 640), (8, 12))
"""Pairs of sizes tried for other free axes."""
_INTEGERS = 64
"""Largest number of computed integers that are remembered: sizes and ranges are short."""
_ARITHMETIC = words(
    """
    Add Cast Concat ConstantOfShape Div Equal Gather Identity Max Min Mod Mul Range ReduceProd Reshape Shape Slice
    Squeeze Sub Transpose Unsqueeze Where
    """
)
_TARGETS = {("Reshape", 1), ("Expand", 1), ("Resize", 3), ("Upsample", 1), ("ConstantOfShape", 0)}
"""Inputs that say the sizes of a result: `remove` mends them."""
_MOVED = ("Cast", "Identity", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True, slots=True, eq=False)
class Sizes:
    """Sizes of tensors by name.

    Attributes:
        bound: With numbers for free axes.
        other: With other numbers: where both agree, the size does not depend on the samples.
        computed: Integers that the graph computes and that do not depend on the samples either.
    """

    bound: Mapping[str, tuple[int, ...]]
    other: Mapping[str, tuple[int, ...]]
    computed: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Binding:
    sizes: Mapping[str, tuple[int, ...]]
    integers: Mapping[str, NDArray[Any]]


def bound_sizes(model: ir.Model) -> Sizes:
    """Returns the sizes that follow from the inputs, under two choices for the free axes."""
    axes = _free_axes(model)
    if not axes:
        only = _bind(model, {}, 1)
        return Sizes(only.sizes, only.sizes, only.integers)
    lengths = _LENGTHS if not all(axes.values()) else _LENGTHS[:1]
    tried = (_pair(model, axes, one, other) for one, other in lengths)
    values = sum(len(node.outputs) for node in model.graph) + len(model.graph.initializers)
    best = Sizes({}, {}, {})
    for found in tried:
        if len(found.bound) > len(best.bound):
            best = found
        if len(best.bound) >= values:
            break
    return best


def _pair(model: ir.Model, axes: Mapping[str, bool], one: int, other: int) -> Sizes:
    try:
        first, second = (
            _bind(model, {name: batch if leads else length for name, leads in axes.items()}, length)
            for batch, length in ((_BATCH, one), (_BATCH + 2, other))
        )
    except SourceError:
        return Sizes({}, {}, {})
    shared = first.integers.keys() & second.integers.keys()
    same = {name for name in shared if np.array_equal(first.integers[name], second.integers[name])}
    computed = {name: array for name, array in first.integers.items() if name in same}
    both = [name for name, shape in first.sizes.items() if len(second.sizes.get(name, (*shape, 0))) == len(shape)]
    return Sizes({n: first.sizes[n] for n in both}, {n: second.sizes[n] for n in both}, computed)


def _bind(model: ir.Model, names: Mapping[str, int], default: int) -> _Binding:
    """Binds free axes and works out what the graph then computes from sizes alone."""
    bound = bind_axes(model, names, default=default, computed=False)
    if _stand_in(bound):
        bound = infer_shapes(bound)
    known: dict[str, NDArray[Any]] = {}
    while True:  # sizes make integers known, and those make sizes known
        sizes = _sizes(bound)
        found = _evaluated(model, sizes)
        new = found.keys() - known.keys()
        if not new:
            return _Binding(sizes, known)
        for value in [value for node in bound.graph for value in node.outputs if value.name in new]:
            constant = add_initializer(bound.graph, f"{value.name}/known", found[value.name or ""])
            ir.convenience.replace_all_uses_with(value, constant, replace_graph_outputs=False)
        known = found
        bound = infer_shapes(bound)


def _stand_in(model: ir.Model) -> int:
    """Lets Identity stand for operators that keep sizes and that shape inference knows nothing of; returns how many."""
    nodes = [node for node in model.graph if node.op_type == "GroupNormalization"]
    for node in nodes:
        node.op_type = "Identity"
        node.resize_inputs(1)
        node.attributes.clear()
    return len(nodes)


def _evaluated(model: ir.Model, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Returns the short integers that nodes compute from sizes and constants."""
    found: dict[str, NDArray[Any]] = {}
    for node in model.graph:
        if node.op_type in _ARITHMETIC and len(node.outputs) == 1:
            result = _result(node, opset(model), sizes, found)
            if result is not None and result.size <= _INTEGERS and result.dtype.kind in "ib":
                found[node.outputs[0].name or ""] = result
    return {name: array for name, array in found.items() if array.dtype.kind == "i"}


def _result(
    node: ir.Node, version: int, sizes: Mapping[str, tuple[int, ...]], found: Mapping[str, NDArray[Any]]
) -> NDArray[Any] | None:
    if node.op_type == "Shape":
        shape = sizes.get((node.inputs[0].name or "") if node.inputs[0] is not None else "")
        start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape or ()))
        return None if shape is None else np.array(shape, np.int64)[start:end]
    given = [_short(value, found) for value in node.inputs]
    if any(array is None for array in given):
        return None
    feed = {value.name or "": array for value, array in zip(node.inputs, given, strict=True) if value is not None}
    (result,) = ReferenceEvaluator(ir.to_proto(node), opsets={"": version}).run(None, feed)
    return np.asarray(result)


def _short(value: ir.Value | None, found: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    if value is None:
        return np.zeros(0, np.int64)  # never fed
    if (value.name or "") in found:
        return found[value.name or ""]
    tensor = ir.convenience.get_const_tensor(value)
    short = tensor is not None and tensor.size <= _INTEGERS and tensor.dtype.is_integer()
    return tensor.numpy() if tensor is not None and short else None


def _free_axes(model: ir.Model) -> dict[str, bool]:
    """Returns the names of free axes, and whether each is a first one."""
    found: dict[str, bool] = {}
    for value in model.graph.inputs:
        if value.name not in model.graph.initializers:
            for place, axis in enumerate(value.shape or ()):
                if not isinstance(axis, int):
                    found.setdefault(axis.value or "", place == 0)
    return found


def _values(model: ir.Model) -> list[ir.Value]:
    graph = model.graph
    made = [value for node in graph for value in node.outputs if value.name]
    return [*graph.inputs, *(v for v in graph.initializers.values() if not v.is_graph_input()), *made]


def _sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    found = {value.name or "": static_shape(value) for value in _values(model)}
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
