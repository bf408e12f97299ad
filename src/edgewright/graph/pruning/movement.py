"""Operators that only move data: where each channel goes."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgewright.graph.pruning.atoms import Labels, moves, still
from edgewright.graph.pruning.scene import Axes, Scene, integers, ints, operand
from edgewright.graph.quantisers import numbers


def transpose(node: ir.Node, scene: Scene) -> None:
    """Axes change places."""
    axes = scene.of(node.inputs[0])
    order = node.attributes.get_ints("perm") or tuple(reversed(range(len(axes))))
    _give(node, scene, [axes[i] for i in order])


def concat(node: ir.Node, scene: Scene) -> None:
    """Channels one behind the other."""
    given = [scene.of(value) for value in node.inputs]
    axis = node.attributes.get_int("axis", 0) % len(given[0])
    out = list(given[0])
    for other in given[1:]:
        for place, labels in enumerate(other):
            if place != axis:
                scene.tie(out[place], labels, node)
    out[axis] = np.concatenate([axes[axis] for axes in given])
    scene.give(node.outputs[0], out)
    scene.silence(
        node.outputs[0], all(scene.quiet(value) or not any(map(moves, scene.of(value))) for value in node.inputs)
    )


def split(node: ir.Node, scene: Scene) -> None:
    """Every output takes the next channels."""
    axes = scene.of(node.inputs[0])
    axis = node.attributes.get_int("axis", 0) % len(axes)
    start = 0
    for value in node.outputs:
        size = scene.shape(value)[axis]
        scene.give(value, [*axes[:axis], axes[axis][start : start + size], *axes[axis + 1 :]])
        scene.silence(value, scene.quiet(node.inputs[0]))
        start += size


def slices(node: ir.Node, scene: Scene) -> None:
    """A range of each axis; a step along channels is not followed, nor a range of them that the graph computes."""
    axes, shape = list(scene.of(node.inputs[0])), scene.shape(node.outputs[0])
    starts, ends, chosen = ints(node, "starts", 1), ints(node, "ends", 2), ints(node, "axes", 3)
    if chosen is None and operand(node, 3) is not None:
        raise NotImplementedError("takes a range of axes that the graph computes")
    steps = integers(operand(node, 4))
    places = range(len(shape)) if chosen is None else (chosen % len(axes)).tolist()
    for i, axis in enumerate(places):
        step = 1 if steps is None else int(steps[i])
        if starts is None or ends is None:
            scene.fix(axes[axis], node, "takes a range of it that the graph computes")
            axes[axis] = still(shape[axis])
        elif i < len(starts):
            if step != 1:
                scene.fix(axes[axis], node, f"takes every {step}th of it")
            axes[axis] = axes[axis][slice(*_bounds(int(starts[i]), int(ends[i]), step, axes[axis].size), step)]
    _give(node, scene, axes)


def _bounds(start: int, end: int, step: int, size: int) -> tuple[int, int | None]:
    if step > 0:
        return start, end
    return start, None if end < -size else end


def gather(node: ir.Node, scene: Scene) -> None:
    """Constant indices pick channels; indices that are computed pick rows of a table, whose width passes."""
    axes, picked = scene.of(node.inputs[0]), scene.of(node.inputs[1])
    axis = node.attributes.get_int("axis", 0) % len(axes)
    indices = numbers(node.inputs[1])
    if indices is None:
        scene.fix(axes[axis], node, "looks rows up along it")
        scene.role(node.inputs[0], -1, "makes", node)
        taken: Axes = [still(size) for size in scene.shape(node.inputs[1])]
    elif indices.ndim == 1:
        taken = [axes[axis][indices]]
    else:
        scene.fix(axes[axis], node, "takes one place of it")
        taken = [still(labels.size) for labels in picked]
    _give(node, scene, [*axes[:axis], *taken, *axes[axis + 1 :]])


def pad(node: ir.Node, scene: Scene) -> None:
    """What is added stands still."""
    axes = scene.of(node.inputs[0])
    amounts = ints(node, "pads", 1)
    if amounts is None or operand(node, 3) is not None:
        raise NotImplementedError("pads by what the graph computes, or single axes")
    before, after = amounts.reshape(2, -1).tolist()
    out = []
    for labels, low, high in zip(axes, before, after, strict=True):
        if min(low, high) < 0 and moves(labels):
            raise NotImplementedError("cuts off by padding")
        size = labels.size + low + high
        out.append(np.concatenate([still(low), labels, still(high)]) if moves(labels) else still(size))
    _give(node, scene, out)


def resize(node: ir.Node, scene: Scene) -> None:
    """Positions change, channels have to stay as many."""
    axes, shape = scene.of(node.inputs[0]), scene.shape(node.outputs[0])
    for labels, size in zip(axes[:2], shape[:2], strict=True):
        if labels.size != size:
            raise NotImplementedError("resizes channels")
    _give(node, scene, [*axes[:2], *(still(size) for size in shape[2:])])


def expand(node: ir.Node, scene: Scene) -> None:
    """Axes of size 1 become wider; what they repeat can be repeated less."""
    axes = scene.of(node.inputs[0])
    shape = scene.shape(node.outputs[0])
    padded = [still(1)] * (len(shape) - len(axes)) + axes
    wider = [place for place, labels in enumerate(padded) if labels.size != shape[place]]
    out = [_repeated(node, scene, i) if i in wider else labels for i, labels in enumerate(padded)]
    scene.give(node.outputs[0], out)
    scene.silence(node.outputs[0], scene.quiet(node.inputs[0]) and not any(moves(out[i]) for i in wider))


def fill(node: ir.Node, scene: Scene) -> None:
    """One value everywhere, in as many channels as its readers want."""
    value = node.attributes["value"].value.numpy() if "value" in node.attributes else np.zeros(1)
    shape = scene.shape(node.outputs[0])
    scene.give(node.outputs[0], [_repeated(node, scene, axis) for axis in range(len(shape))])
    scene.silence(node.outputs[0], not np.any(value))


def _repeated(node: ir.Node, scene: Scene, axis: int) -> Labels:
    size = scene.shape(node.outputs[0])[axis]
    return scene.atoms.fresh(size) if scene.fixed_size(node.outputs[0], axis) else still(size)


def tile(node: ir.Node, scene: Scene) -> None:
    """Every copy goes with its original."""
    axes, shape = scene.of(node.inputs[0]), scene.shape(node.outputs[0])
    _give(node, scene, [np.tile(labels, size // labels.size) for labels, size in zip(axes, shape, strict=True)])


def depth_to_space(node: ir.Node, scene: Scene) -> None:
    """The channels that become positions of one channel go together."""
    axes, shape = scene.of(node.inputs[0]), scene.shape(node.outputs[0])
    if node.attributes.get_string("mode", "DCR") == "DCR":
        rows = axes[1].reshape(-1, shape[1]).T
    else:
        rows = axes[1].reshape(shape[1], -1)
    scene.tie_rows(rows, node)
    _give(node, scene, [axes[0], rows[:, 0], *(still(size) for size in shape[2:])])


def space_to_depth(node: ir.Node, scene: Scene) -> None:
    """A channel becomes one channel for every place of a block."""
    axes, shape = scene.of(node.inputs[0]), scene.shape(node.outputs[0])
    labels = np.tile(axes[1], shape[1] // axes[1].size)
    _give(node, scene, [axes[0], labels, *(still(size) for size in shape[2:])])


def shape_of(node: ir.Node, scene: Scene) -> None:
    """Sizes: numbers, which are no channels. Who reads them is looked at in `sizes`."""
    for value in node.outputs:
        scene.give(value, [still(size) for size in scene.shape(value)])


def reshape(node: ir.Node, scene: Scene) -> None:
    """The same elements in order, in other axes: channels that are split keep one of the new axes.

    Works on the smallest runs of axes with equal products. Where one axis becomes several, its channels stay apart
    along one of them (the carrier) and are tied along the others.
    """
    given, out_shape = scene.of(node.inputs[0]), scene.shape(node.outputs[0])
    out: Axes = [still(size) for size in out_shape]
    blocks = list(_blocks(scene.shape(node.inputs[0]), out_shape))
    for before, after in blocks:
        labelled = [axis for axis in before if moves(scene.atoms.free(given[axis]))]
        wide = [axis for axis in after if out_shape[axis] > 1]
        for extra in labelled[1:]:
            scene.fix(given[extra], node, "merges it with other channels")
        if labelled and not wide:
            scene.fix(given[labelled[0]], node, "drops it")
        elif labelled:
            axis = labelled[0]
            whole = _spread(given, before, axis).reshape([out_shape[i] for i in wide])
            place, labels = _carried(node, scene, whole, wide, len(out_shape))
            out[place] = labels
    _give(node, scene, out)


def _spread(given: Axes, before: list[int], axis: int) -> Labels:
    """Returns the labels of one axis for every element of a run of axes."""
    shape = [given[i].size for i in before]
    view = [given[axis].size if i == axis else 1 for i in before]
    return np.broadcast_to(given[axis].reshape(view), shape)


def _carried(node: ir.Node, scene: Scene, whole: Labels, wide: list[int], rank: int) -> tuple[int, Labels]:
    roots = scene.atoms.roots(whole)
    for place in range(len(wide)):
        rows = np.moveaxis(roots, place, 0).reshape(roots.shape[place], -1)
        if (rows == rows[:, :1]).all():
            return wide[place], rows[:, 0]
    place = (_carrier(whole.shape, wide, rank) + scene.carriers.get(node.name or "", 0)) % len(wide)
    rows = np.moveaxis(whole, place, 0).reshape(whole.shape[place], -1)
    scene.tie_rows(rows, node)
    scene.carried[node.name or ""] = rows[:, 0]
    return wide[place], rows[:, 0]


def _carrier(sizes: tuple[int, ...], wide: list[int], rank: int) -> int:
    """Returns which of the new axes tells channels apart.

    Heads of attention stand before the last axis, which is their width; a shuffle has positions behind it, and its
    longer axis are the channels.
    """
    if wide[-1] == rank - 1:
        return max(len(sizes) - 2, 0)
    return int(np.argmax(sizes))


def _blocks(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Returns the shortest runs of axes, before and after, that hold the same elements in the same order."""
    if math.prod(before) != math.prod(after):
        raise NotImplementedError("has sizes that do not fit")
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left: list[int] = []
        right: list[int] = []
        size = other = 1
        while not left or size != other:
            if i < len(before) and (size <= other or j >= len(after)):
                size *= before[i]
                left.append(i)
                i += 1
            elif j < len(after):
                other *= after[j]
                right.append(j)
                j += 1
            else:
                break
        found.append((left, right))
    return found


def _give(node: ir.Node, scene: Scene, axes: Axes) -> None:
    scene.give(node.outputs[0], axes)
    scene.silence(node.outputs[0], scene.quiet(node.inputs[0]))
