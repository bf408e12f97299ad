"""Channels taken out of a graph for good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.errors import ConfigError, StepFailed
from edgewright.graph.pruning.groups import Group, groups_of
from edgewright.graph.pruning.mend import Removal, mend
from edgewright.graph.pruning.scene import Scene
from edgewright.graph.pruning.trace import trace
from edgewright.graph.shapes import refresh_shapes


def remove(model: ir.Model, kept: Mapping[str, Sequence[int]]) -> None:
    """Removes channels from all weights, constants and written sizes, in place; shapes are inferred anew.

    The result computes what the graph did with every slice of these channels set to zero, exactly but for the order of
    sums.

    Args:
        model: As `prepare` leaves it.
        kept: Group name -> the channels that stay, ascending; groups not named stay whole.

    Raises:
        ConfigError: No such group or channel, or none would be left.
        StepFailed: The result contradicts itself: report the model.
    """
    scene = trace(model)
    groups = {group.name: group for group in groups_of(scene)}
    gone = [_gone(scene, _known(groups, name), channels) for name, channels in kept.items()]
    removal = Removal(scene, np.concatenate([*gone, np.zeros(0, np.int64)]))
    nodes = list(model.graph)
    for node in nodes:
        mend(node, removal)
    for name in sorted(scene.constants):
        _cut(model.graph.initializers[name], removal)
    _drop_unused(model.graph)
    refresh_shapes(model)
    _verify(nodes, removal)


def _known(groups: Mapping[str, Group], name: str) -> Group:
    if name not in groups:
        raise ConfigError(
            f"no group `{name}` in this model", hint=f"one of: {', '.join(groups) or 'none can be pruned'}"
        )
    return groups[name]


def _gone(scene: Scene, group: Group, channels: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    stay = np.zeros(group.size, bool)
    asked = np.asarray(list(channels), np.int64)
    if not asked.size or asked.min() < 0 or asked.max() >= group.size or (np.diff(asked) <= 0).any():
        raise ConfigError(
            f"group `{group.name}` has channels 0 to {group.size - 1}, asked to keep {list(channels)[:8]}",
            hint="name at least one channel, ascending",
        )
    stay[asked] = True
    first = group.members[0]
    return scene.atoms.roots(scene.labels[first.tensor][first.axis][first.places[~stay, 0]])


def _cut(value: ir.Value, removal: Removal) -> None:
    masks = removal.masks(value)
    if all(mask.all() for mask in masks) or value.const_value is None:
        return
    array = value.const_value.numpy()
    for axis, mask in enumerate(masks):
        array = np.compress(mask, array, axis=axis)
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name, dtype=value.const_value.dtype)
    value.shape = ir.Shape(array.shape)


def _drop_unused(graph: ir.Graph) -> None:
    kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and id(value) not in kept:
            del graph.initializers[name]


def _verify(nodes: list[ir.Node], removal: Removal) -> None:
    for value in (value for node in nodes for value in node.outputs):
        if value.name in removal.scene.shapes and value.shape is not None:
            left = [int(mask.sum()) for mask in removal.masks(value)]
            known = [isinstance(size, int) and removal.scene.fixed_size(value, i) for i, size in enumerate(value.shape)]
            if any(sure and size != n for sure, size, n in zip(known, value.shape, left, strict=True)):
                raise StepFailed(
                    f"`{value.name}` has the sizes {list(value.shape)} after removing channels, expected {left}",
                    hint="report this model; `keep` can name the layer meanwhile",
                )
