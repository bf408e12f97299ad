"""How large every operator is as a function of the sizes of groups: found by removing channels and looking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import onnx_ir as ir

from edgewright.core.costs import Extent, LayerShape
from edgewright.graph.cost import node_macs
from edgewright.graph.pruning.branches import find_branches
from edgewright.graph.shapes import bind_axes, static_shape

if TYPE_CHECKING:
    from edgewright.graph.pruning.groups import Group

_NAMED = ("kernel_shape", "strides", "dilations", "auto_pad")


class Remover(Protocol):
    """Removes channels from a model in place, see `edgewright.graph.pruning.remove`."""

    def __call__(self, model: ir.Model, kept: Mapping[str, Sequence[int]]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Figures:
    """Of one operator in one graph."""

    inputs: int
    outputs: int
    depth: float


def layer_shapes(model: ir.Model, groups: Sequence[Group], remove: Remover) -> tuple[LayerShape, ...]:
    """Returns the shape of every operator as a function of group sizes.

    Every group is shrunk alone by the least it can, so nothing here knows how channels flow through operators. Values
    read, values written and products per value written are linear in each group; their products are not, and need
    not be.

    Args:
        model: With static shapes (`shapes.bind_axes`); left as it is.
        groups: Of the model.
        remove: What removes channels.
    """
    whole = {node.name or "": _figures(node) for node in model.graph}
    found: dict[str, dict[str, tuple[float, float, float]]] = {name: {} for name in whole}
    for group in groups:
        step = min(max(group.multiple, 1), group.size - 1) or 1
        if group.size <= step:
            continue
        smaller = model.clone()
        remove(smaller, {group.name: range(group.size - step)})
        if any(static_shape(value) is None for node in smaller.graph for value in node.outputs):
            smaller = bind_axes(smaller, {})  # shapes that the graph computes
        for node in smaller.graph:
            before = whole.get(node.name or "")
            if before is not None:
                _note(found[node.name or ""], group.name, before, _figures(node), step)
    sizes = {group.name: group.size for group in groups}
    shapes = (_shape(node, whole[node.name or ""], found[node.name or ""], sizes) for node in model.graph)
    branches = find_branches(model)
    return tuple(replace(s, branches=tuple(b.name for b in branches if s.node in b.nodes)) for s in shapes)


def _note(
    known: dict[str, tuple[float, float, float]], group: str, before: _Figures, after: _Figures, step: int
) -> None:
    change = (
        (before.inputs - after.inputs) / step,
        (before.outputs - after.outputs) / step,
        (before.depth - after.depth) / step,
    )
    if any(change):
        known[group] = change


def _figures(node: ir.Node) -> _Figures:
    read = sum(_size(v) for v in node.inputs if v is not None and not v.is_initializer())
    written = sum(_size(v) for v in node.outputs)
    return _Figures(read, written, node_macs(node) / written if written else 0.0)


def _size(value: ir.Value) -> int:
    return math.prod(static_shape(value) or (0,))


def _shape(
    node: ir.Node, whole: _Figures, changes: Mapping[str, tuple[float, float, float]], sizes: Mapping[str, int]
) -> LayerShape:
    def extent(index: int, at_full: float) -> Extent:
        per = {group: change[index] for group, change in changes.items() if change[index]}
        return Extent(at_full - sum(each * sizes[group] for group, each in per.items()), per)

    macs = whole.outputs * whole.depth
    stored = max((_size(v) for v in node.inputs if v is not None and v.is_initializer()), default=0)
    return LayerShape(
        node=node.name or "",
        op=node.op_type,
        kind=_kind(node),
        inputs=extent(0, whole.inputs),
        outputs=extent(1, whole.outputs),
        depth=extent(2, whole.depth),
        weights=stored / macs if macs else 0.0,
    )


def _kind(node: ir.Node) -> str:
    """Names what decides the curve of an operator's time, channels left out."""
    named = [f"{name}={_plain(node.attributes[name])}" for name in _NAMED if name in node.attributes]
    shapes = [static_shape(value) or () for value in (*node.inputs[:2], *node.outputs[:1]) if value is not None]
    if node.op_type == "Conv":
        kernel = shapes[1][2:] if len(shapes) > 1 else ()
        depthwise = node.attributes.get_int("group", 1) > 1
        places = f"{shapes[0][2:]}->{shapes[-1][2:]}"
        return f"Conv {kernel} {places}{' grouped' if depthwise else ''} {' '.join(named)}"
    return f"{node.op_type} {shapes[-1][2:] if shapes else ()} {' '.join(named)}"


def _plain(attribute: ir.Attr) -> str:
    return str(attribute.value).replace(" ", "")
