"""Numbers written in nodes that follow from how many channels there are: sizes, ranges, groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.initializers import add_initializer
from edgewright.graph.pruning.atoms import Labels, among
from edgewright.graph.pruning.products import by_group
from edgewright.graph.pruning.scene import Scene, integers, ints, operand
from edgewright.graph.quantisers import numbers

Mask = NDArray[np.bool_]
_GONE = -2


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """What goes.

    Attributes:
        scene: The graph as it was.
        gone: Classes that are removed.
    """

    scene: Scene
    gone: NDArray[np.int64]

    def stays(self, labels: Labels) -> Mask:
        """Returns which indices of an axis stay."""
        return np.asarray(among(self.scene.atoms.roots(labels), self.gone, _GONE) != _GONE)

    def masks(self, value: ir.Value | None) -> list[Mask]:
        """Returns which indices of each axis of a tensor stay."""
        return [self.stays(labels) for labels in self.scene.of(value)]


def mend(node: ir.Node, removal: Removal) -> None:
    """Corrects the numbers of `node`, in place.

    Raises:
        StepFailed: They cannot be written.
    """
    mender = MENDERS.get(node.op_type)
    if mender is not None and _touched(node, removal):
        mender(node, removal)


def _touched(node: ir.Node, removal: Removal) -> bool:
    values = [value for value in (*node.inputs[:1], *node.outputs) if value is not None and value.name]
    return any(not mask.all() for value in values for mask in removal.masks(value))


def _conv(node: ir.Node, removal: Removal) -> None:
    groups, mask = node.attributes.get_int("group", 1), removal.masks(node.inputs[0])[1]
    if groups > 1 and by_group(groups, mask.size):
        node.attributes["group"] = ir.AttrInt64("group", int(mask.sum()) * groups // mask.size)


def _group_norm(node: ir.Node, removal: Removal) -> None:
    groups, mask = node.attributes.get_int("num_groups", 1), removal.masks(node.inputs[0])[1]
    node.attributes["num_groups"] = ir.AttrInt64("num_groups", int(mask.sum()) * groups // mask.size)


def _recurrent(node: ir.Node, removal: Removal) -> None:
    node.attributes["hidden_size"] = ir.AttrInt64("hidden_size", int(removal.masks(node.inputs[2])[2].sum()))


def _target(index: int) -> Callable[[ir.Node, Removal], None]:
    def mender(node: ir.Node, removal: Removal) -> None:
        given = operand(node, index)
        if given is not None:
            known = integers(given)
            masks = removal.masks(node.outputs[0])
            if any(not mask.all() for mask in masks):
                new = _computed(node, removal, given) if known is None else _written(node, removal, known)
                node.replace_input_with(index, new)

    return mender


def _written(node: ir.Node, removal: Removal, target: NDArray[np.int64]) -> ir.Value:
    left = [int(mask.sum()) for mask in removal.masks(node.outputs[0])]
    before = [int(mask.sum()) for mask in removal.masks(node.inputs[0])]
    kept = target.copy()
    for axis, size in enumerate(target.tolist()):
        copied = size == 0 and axis < len(before) and before[axis] == left[axis]
        if size != -1 and not copied and not (node.op_type == "Expand" and size == 1):
            kept[axis] = left[axis]
    return add_initializer(_graph(node), f"{node.name}/sizes", kept)


def _computed(node: ir.Node, removal: Removal, target: ir.Value) -> ir.Value:
    """Joins known sizes with what the graph computes for the others."""
    graph, out = _graph(node), node.outputs[0]
    parts: list[ir.Value] = []
    made: list[ir.Node] = []
    for axis, mask in enumerate(removal.masks(out)):
        if removal.scene.fixed_size(out, axis) or not mask.all():
            size = int(mask.sum()) if removal.scene.fixed_size(out, axis) else -1
            parts.append(add_initializer(graph, f"{node.name}/size_{axis}", np.array([size], np.int64)))
        else:
            place = add_initializer(graph, f"{node.name}/axis_{axis}", np.array([axis], np.int64))
            made.append(ir.node("Gather", [target, place], {"axis": 0}, name=f"{node.name}/take_{axis}"))
            parts.append(made[-1].outputs[0])
    made.append(ir.node("Concat", parts, {"axis": 0}, name=f"{node.name}/join"))
    for new in made:
        new.outputs[0].name = f"{new.name}_out"
    graph.insert_before(node, made)
    return made[-1].outputs[0]


def _split(node: ir.Node, removal: Removal) -> None:
    shape = removal.scene.shape(node.inputs[0])
    axis = node.attributes.get_int("axis", 0) % len(shape)
    left = np.array([int(removal.masks(value)[axis].sum()) for value in node.outputs], np.int64)
    if removal.scene.version < 13:
        node.attributes["split"] = ir.AttrInt64s("split", left.tolist())
        return
    node.attributes.pop("num_outputs", None)
    sizes = add_initializer(_graph(node), f"{node.name}/split", left)
    if len(node.inputs) < 2:
        node.resize_inputs(2)
    node.replace_input_with(1, sizes)


def _slice(node: ir.Node, removal: Removal) -> None:
    masks = removal.masks(node.inputs[0])
    starts, ends = ints(node, "starts", 1), ints(node, "ends", 2)
    if starts is None or ends is None:  # no channels: those would have been fixed
        return
    axes = ints(node, "axes", 3)
    axes = np.arange(len(starts)) if axes is None else axes % len(masks)
    starts, ends = starts.copy(), ends.copy()
    for i, axis in enumerate(axes.tolist()):
        mask = masks[axis]
        if not mask.all():
            first, last, _ = slice(int(starts[i]), int(ends[i])).indices(mask.size)
            starts[i], ends[i] = int(mask[:first].sum()), int(mask[:last].sum())
    for index, name, array in ((1, "starts", starts), (2, "ends", ends)):
        if name in node.attributes:
            node.attributes[name] = ir.AttrInt64s(name, array.tolist())
        else:
            node.replace_input_with(index, add_initializer(_graph(node), f"{node.name}/{name}", array))


def _gather(node: ir.Node, removal: Removal) -> None:
    masks, indices = removal.masks(node.inputs[0]), numbers(node.inputs[1])
    mask = masks[node.attributes.get_int("axis", 0) % len(masks)]
    if indices is not None and not mask.all():
        wanted = indices % mask.size
        places = (np.cumsum(mask) - 1)[wanted[mask[wanted]]]
        node.replace_input_with(1, add_initializer(_graph(node), f"{node.name}/indices", places.astype(indices.dtype)))


def _graph(node: ir.Node) -> ir.Graph:
    if not isinstance(node.graph, ir.Graph):
        raise StepFailed(f"node `{node.name}` is in no graph", hint="report this model")
    return node.graph


MENDERS: Mapping[str, Callable[[ir.Node, Removal], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv,
    "GroupNormalization": _group_norm,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Reshape": _target(1),
    "Expand": _target(1),
    "ConstantOfShape": _target(0),
    "Resize": _target(3),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
}
