"""Groups of channels: the smallest things that can be removed, with every weight that goes with them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.pruning.atoms import STILL, moves
from edgewright.graph.pruning.scene import Scene
from edgewright.graph.pruning.trace import trace

Key = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """What one initialiser holds of each channel of a group.

    Attributes:
        tensor: The initialiser.
        axis: Along which it is sliced.
        places: Indices on that axis, [channels, indices of a channel].
        role: `makes` where a layer produces the channels, `reads` where one consumes them, else `follows` (biases,
            norms, slopes, constants).
    """

    tensor: str
    axis: int
    places: NDArray[np.int64]
    role: str


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Channels, or heads, that are removed one by one with all that belongs to each.

    Attributes:
        name: After the first layer that makes them.
        size: How many there are.
        members: Slices of initialisers that go with each.
        producers: Layers that make them, in graph order.
        consumers: Layers that read them.
        kind: `channels`, or `heads` where one is several neighbouring features of a layer that makes it.
        width: Features that one of them is in the first layer that makes it.
        multiple: How many are left must be a multiple of it.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    kind: str
    width: int
    multiple: int = 1


def find_groups(model: ir.Model) -> tuple[Group, ...]:
    """Returns everything that can be removed from `model`, in graph order.

    Args:
        model: Float, as `prepare` leaves it. Not changed.

    Raises:
        ConfigError: The model is quantised.
    """
    return groups_of(trace(model))


def explain_fixed(model: ir.Model) -> dict[str, str]:
    """Returns why channels have to stay, by the name of the layer that makes them, in graph order."""
    return fixed_of(model, trace(model))


def groups_of(scene: Scene) -> tuple[Group, ...]:
    """Returns the groups of a traced graph."""
    places = _places(scene)
    seen = _seen(scene)
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for root, held in places.items():
        likeness = (*((key, len(found)) for key, found in sorted(held.items())), *seen[root])
        alike[likeness].append(root)
    found = [_group(scene, sorted(places[roots[0]]), roots, places) for roots in alike.values() if len(roots) > 1]
    order = _order(scene)
    groups = [group for group in found if group is not None]
    groups.sort(key=lambda group: (order.get(group.producers[0], 0), _start(scene, group)))
    return tuple(_named(groups))


def fixed_of(model: ir.Model, scene: Scene) -> dict[str, str]:
    """Returns the reasons by layer of a traced graph."""
    free = {key for group in groups_of(scene) for key in ((m.tensor, m.axis) for m in group.members)}
    found = {}
    for key, nodes in scene.makers.items():
        if scene.roles[key] == "makes" and key not in free:
            found.update(dict.fromkeys(nodes, _why(scene, key)))
    return {node.name or "": found[node.name or ""] for node in model.graph if (node.name or "") in found}


def _why(scene: Scene, key: Key) -> str:
    labels = scene.labels[key[0]][key[1]]
    if labels.size == 1:
        return "it is a single channel"
    reasons = (scene.atoms.reason(label) for label in labels.tolist())
    return next((reason for reason in reasons if reason), "all of them go together")


def _places(scene: Scene) -> dict[int, dict[Key, NDArray[np.int64]]]:
    """Returns, for every class that may go, its indices on the axes of initialisers."""
    found: dict[int, dict[Key, NDArray[np.int64]]] = defaultdict(dict)
    for tensor in sorted(scene.constants):
        for axis, labels in enumerate(scene.labels[tensor]):
            free = scene.atoms.free(labels)
            order = np.argsort(free, kind="stable")
            roots, starts = np.unique(free[order], return_index=True)
            for root, held in zip(roots.tolist(), np.split(order, starts[1:]), strict=True):
                if root != STILL:
                    found[root][tensor, axis] = held
    return found


def _seen(scene: Scene) -> dict[int, list[Key]]:
    """Returns the axes of activations that each class is on: no axis may lose all of its channels."""
    found: dict[int, list[Key]] = defaultdict(list)
    for tensor, axes in scene.labels.items():
        for axis, labels in enumerate(axes):
            if tensor not in scene.constants and moves(labels):
                for root in np.unique(scene.atoms.roots(labels)).tolist():
                    found[root].append((tensor, axis))
    return found


def _group(
    scene: Scene, keys: list[Key], roots: list[int], places: dict[int, dict[Key, NDArray[np.int64]]]
) -> Group | None:
    makes = [key for key in keys if scene.roles.get(key) == "makes"]
    reads = [key for key in keys if scene.roles.get(key) == "reads"]
    if not makes:
        return None
    order = _order(scene)
    producers = _nodes(scene, makes, order)
    first = next(key for key in makes if producers[0] in scene.makers[key])
    roots = sorted(roots, key=lambda root: int(places[root][first][0]))
    members = tuple(_member(scene, key, [places[root][key] for root in roots]) for key in keys)
    width = min(len(places[roots[0]][key]) for key in makes)
    kind = "heads" if width > 1 and _neighbours(places[roots[0]][first]) else "channels"
    return Group(producers[0], len(roots), members, producers, _nodes(scene, reads, order), kind, width)


def _start(scene: Scene, group: Group) -> int:
    """Returns the first index of a group in its first layer: other constants must not change the order of groups."""
    held = [m for m in group.members if m.role == "makes" and group.producers[0] in scene.makers[m.tensor, m.axis]]
    return min(int(member.places[0, 0]) for member in held)


def _member(scene: Scene, key: Key, held: list[NDArray[np.int64]]) -> Member:
    return Member(key[0], key[1], np.stack(held), scene.roles.get(key, "follows"))


def _neighbours(held: NDArray[np.int64]) -> bool:
    return bool((np.diff(held) == 1).sum() * 2 >= held.size - 1)


def _nodes(scene: Scene, keys: list[Key], order: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted({name for key in keys for name in scene.makers[key]}, key=order.__getitem__))


def _order(scene: Scene) -> dict[str, int]:
    return {
        name: index for index, name in enumerate(dict.fromkeys(n for names in scene.makers.values() for n in names))
    }


def _named(groups: list[Group]) -> list[Group]:
    """Gives groups of one layer numbers: a layer that is split makes several."""
    seen: dict[str, int] = {}
    named = []
    for group in groups:
        count = seen[group.name] = seen.get(group.name, 0) + 1
        name = group.name if count == 1 else f"{group.name}#{count}"
        named.append(replace(group, name=name))
    return named
