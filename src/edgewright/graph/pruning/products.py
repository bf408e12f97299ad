"""Layers with weights: which channels they make and which they read."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.pruning.atoms import Labels, moves, still
from edgewright.graph.pruning.scene import Axes, Scene, operand


def conv(node: ir.Node, scene: Scene) -> None:
    """Weights [out, in / groups, ...]; reads axis 1, makes axis 1."""
    data, weights = scene.of(node.inputs[0]), scene.of(node.inputs[1])
    out, inside = weights[0], data[1]
    groups = node.attributes.get_int("group", 1)
    if groups == 1:
        scene.tie(inside, weights[1], node)
    elif by_group(groups, inside.size):
        scene.tie_rows(np.concatenate([inside.reshape(groups, -1), out.reshape(groups, -1)], axis=1), node)
        scene.fix(weights[1], node, "counts it in every group")
    else:
        scene.tie_rows(np.concatenate([inside.reshape(groups, -1), weights[1][None]]).T, node)
        scene.tie_rows(out.reshape(groups, -1).T, node)
    _finish(node, scene, out, axis=0)


def conv_transpose(node: ir.Node, scene: Scene) -> None:
    """Weights [in, out / groups, ...]; reads axis 1, makes axis 1."""
    data, weights = scene.of(node.inputs[0]), scene.of(node.inputs[1])
    groups = node.attributes.get_int("group", 1)
    whole = groups > 1 and by_group(groups, data[1].size)
    scene.tie(data[1], weights[0], node)
    out = np.tile(weights[1], groups)
    if whole:
        rows = data[1].reshape(groups, -1)
        scene.tie_rows(rows, node)
        scene.fix(weights[1], node, "counts it in every group")
        out = np.repeat(rows[:, 0], weights[1].size)
    elif groups > 1:
        scene.tie_rows(data[1].reshape(groups, -1).T, node)
    _finish(node, scene, out, axis=0 if whole else 1)


def by_group(groups: int, channels: int) -> bool:
    """Says whether whole groups of a grouped convolution are removed, or the same place of every group.

    Whatever leaves more to choose from: depthwise and ResNeXt-like layers lose groups, those with few wide groups lose
    places.
    """
    return groups >= channels // groups


def _finish(node: ir.Node, scene: Scene, out: Labels, axis: int) -> None:
    for index, role in ((axis, "makes"), (1 - axis, "reads")):
        scene.role(node.inputs[1], index, role, node)
    _bias(node, scene, operand(node, 2), out)
    batch, shape = scene.of(node.inputs[0])[0], scene.shape(node.outputs[0])
    scene.give(node.outputs[0], [batch, out, *(still(size) for size in shape[2:])])
    scene.silence(node.outputs[0], all(scene.quiet(value) for value in node.inputs[1:]))


def _bias(node: ir.Node, scene: Scene, value: ir.Value | None, out: Labels) -> None:
    if value is None:
        return
    for labels in scene.of(value):
        if labels.size == out.size:
            scene.tie(labels, out, node)


def gemm(node: ir.Node, scene: Scene) -> None:
    """Either factor may be turned; the third input is added with broadcasting."""
    first, second = scene.of(node.inputs[0]), scene.of(node.inputs[1])
    rows, left = _turned(first, node.attributes.get_int("transA", 0))
    turned = node.attributes.get_int("transB", 0)
    right, out = _turned(second, turned)
    contract(node, scene, left, right)
    scene.role(node.inputs[1], 0 if turned else 1, "makes", node)
    scene.role(node.inputs[1], 1 if turned else 0, "reads", node)
    added = operand(node, 2)
    silent = (scene.quiet(node.inputs[1]) or not moves(out)) and (scene.quiet(node.inputs[0]) or not moves(rows))
    if added is not None:
        broadcast(node, scene, [[rows, out], scene.of(added)])
        silent = silent and scene.quiet(added) and scene.shape(added)[-1:] == (out.size,)
    scene.give(node.outputs[0], [rows, out])
    scene.silence(node.outputs[0], silent)


def _turned(axes: Axes, turned: int) -> tuple[Labels, Labels]:
    return (axes[1], axes[0]) if turned else (axes[0], axes[1])


def matmul(node: ir.Node, scene: Scene) -> None:
    """[..., rows, inner] by [..., inner, columns]; vectors and broadcasting of the leading axes as in NumPy."""
    first, second = scene.of(node.inputs[0]), scene.of(node.inputs[1])
    contract(node, scene, first[-1], second[-2] if len(second) > 1 else second[-1])
    ends = [*(first[-2:-1]), *(second[-1:] if len(second) > 1 else [])]
    leading = broadcast(node, scene, [first[:-2], second[:-2]])
    if len(second) > 1:
        scene.role(node.inputs[1], -1, "makes", node)
        scene.role(node.inputs[1], -2, "reads", node)
    if len(first) > 1:
        scene.role(node.inputs[0], -2, "makes", node)
        scene.role(node.inputs[0], -1, "reads", node)
    scene.give(node.outputs[0], [*leading, *ends])
    quiet = [scene.quiet(value) for value in node.inputs]
    calm = [not any(map(moves, axes)) for axes in (first[-2:-1] if len(first) > 1 else [], second[-1:], leading)]
    scene.silence(node.outputs[0], (quiet[0] or calm[0]) and (quiet[1] or calm[1]) and (any(quiet) or calm[2]))


def contract(node: ir.Node, scene: Scene, left: Labels, right: Labels) -> None:
    """Ties the axes that a product sums over; one of the factors has to be zero where a channel goes."""
    scene.tie(left, right, node)
    if not any(scene.quiet(value) for value in node.inputs[:2]):
        scene.fix(left, node, "sums over it, and what it sums does not vanish with the channel")


def broadcast(node: ir.Node, scene: Scene, operands: list[Axes]) -> Axes:
    """Ties axes that meet, aligned at their ends; an axis of size 1 meets nothing."""
    rank = max((len(axes) for axes in operands), default=0)
    out: Axes = []
    for place in range(-rank, 0):
        meeting = [axes[place] for axes in operands if len(axes) >= -place]
        wide = [labels for labels in meeting if labels.size != 1]
        for labels in wide[1:]:
            scene.tie(wide[0], labels, node)
        out.append(wide[0] if wide else meeting[0])
    return out


def recurrent(node: ir.Node, scene: Scene) -> None:
    """LSTM, GRU and RNN: inputs [length, batch, in], weights [directions, gates x hidden, in].

    A hidden unit goes from all gates and both directions.
    """
    data, weights, again = (scene.of(node.inputs[i]) for i in range(3))
    if node.attributes.get_int("layout", 0):
        raise NotImplementedError("has its batch first")
    scene.tie(data[2], weights[2], node)
    scene.role(node.inputs[1], 2, "reads", node)
    hidden = again[2]
    for labels in (weights[1], again[1]):
        scene.tie_rows(np.concatenate([hidden[None], labels.reshape(-1, hidden.size)]).T, node)
    for index in (1, 2):
        scene.role(node.inputs[index], 1, "makes", node)
    scene.role(node.inputs[2], 2, "reads", node)
    for index in (3, 5, 6, 7):  # biases, first states, peepholes: the last axis counts gates and units
        value = operand(node, index)
        if value is not None:
            table = scene.of(value)[-1].reshape(-1, hidden.size)
            scene.tie_rows(np.concatenate([hidden[None], table]).T, node)
    _recurrent_outputs(node, scene, hidden)


def _recurrent_outputs(node: ir.Node, scene: Scene, hidden: Labels) -> None:
    states = [value for value in (operand(node, 5), operand(node, 6)) if value is not None]
    silent = all(value.is_initializer() for value in states)
    plain = not node.attributes.get_strings("activations") and not node.attributes.get_float("clip", 0.0)
    for value in node.outputs:
        if value.name:
            shape = scene.shape(value)
            scene.give(value, [*(still(size) for size in shape[:-1]), hidden])
            scene.silence(value, silent and plain)
