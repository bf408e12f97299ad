"""Channels that samples do not change, removed without changing the function: what they say goes into the next bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.pruning.atoms import Labels
from edgewright.graph.pruning.constants import known_values
from edgewright.graph.pruning.groups import Group, groups_of
from edgewright.graph.pruning.importance import slices
from edgewright.graph.pruning.readers import Site, find_sites, fold, merge
from edgewright.graph.pruning.scene import Scene
from edgewright.graph.pruning.trace import trace


@dataclass(frozen=True, slots=True, eq=False)
class Shrinking:
    """What can go.

    Attributes:
        groups: All groups of the model.
        kept: Group -> channels that stay; groups that stay whole are left out.
        left: Layer -> why filters of zeros of it have to stay.
    """

    groups: tuple[Group, ...]
    kept: Mapping[str, tuple[int, ...]]
    left: Mapping[str, str]


def fold_constant_channels(model: ir.Model) -> Shrinking:
    """Finds channels that no sample changes and gives what they contribute to what stays, in place.

    The function stays the same; `remove(model, result.kept)` then takes them out. A channel can go where every layer
    that sums over it either has only zeros for it, or sees one number at every position, which then goes into its bias.
    In front of a convolution that pads with zeros, a number other than zero is no bias; but all such channels of a
    group are multiples of one of them, which takes over their weights and stays.

    Args:
        model: Float, as `prepare` leaves it.

    Raises:
        ConfigError: The model is quantised.
    """
    scene = trace(model)
    groups = groups_of(scene)
    sites = list(find_sites(model, scene, known_values(model, scene)))
    verdicts = _judge(sites)
    kept: dict[str, tuple[int, ...]] = {}
    gone: list[int] = []
    left: dict[str, str] = {}
    for group in groups:
        roots = _roots(scene, group)
        free = np.array([verdicts.free(root) for root in roots.tolist()])
        merged = _merged(sites, [root for root in roots.tolist() if verdicts.mergeable(root)])
        free |= np.isin(roots, merged)
        if free.all():
            free[0] = False
        if free.any():
            kept[group.name] = tuple(np.flatnonzero(~free).tolist())
            gone += roots[free].tolist()
        left.update(_left(model, group, roots, free, verdicts))
    for site in sites:
        fold(site, np.array(gone, np.int64))
    return Shrinking(groups, kept, left)


@dataclass(slots=True)
class _Verdicts:
    """What layers say of classes.

    Attributes:
        idle: Some layer sees a constant or does not read it.
        merge: Some layer sees a constant that is no bias, but can be merged with others.
        blocked: Some layer needs it, and why.
    """

    idle: set[int] = field(default_factory=set)
    merge: dict[int, str] = field(default_factory=dict)
    blocked: dict[int, str] = field(default_factory=dict)

    def free(self, root: int) -> bool:
        return root in self.idle and root not in self.blocked and root not in self.merge

    def mergeable(self, root: int) -> bool:
        return root in self.merge and root not in self.blocked


def _judge(sites: Sequence[Site]) -> _Verdicts:
    verdicts = _Verdicts()
    for site in sites:
        for place in np.flatnonzero(site.labels >= 0).tolist():
            root = int(site.labels[place])
            if site.unread[place] or site.constant[place]:
                verdicts.idle.add(root)
            if site.merges and site.constant[place] and not site.foldable[place]:
                verdicts.merge.setdefault(root, site.why(place))
            elif not site.foldable[place]:
                verdicts.blocked.setdefault(root, site.why(place))
    return verdicts


def _merged(sites: Sequence[Site], roots: Sequence[int]) -> list[int]:
    """Lets one of these classes take over the weights of the others, in place; returns the others."""
    places = [(site, {int(root): i for i, root in enumerate(site.labels.tolist())}) for site in sites if site.merges]
    needed = [
        (site, [held[root] for root in roots])
        for site, held in places
        if all(root in held for root in roots) and not all(site.foldable[held[root]] for root in roots)
    ]
    if len(roots) < 2 or not needed or _elsewhere(places, needed, roots):
        return []
    sizes = np.min([np.abs(site.known[at]) for site, at in needed], axis=0)
    stands = int(np.argmax(sizes))  # the largest: shares of a tiny one would be huge
    if sizes[stands] == 0:
        return []
    for site, at in needed:
        merge(site, at[stands], [place for i, place in enumerate(at) if i != stands])
    return [root for i, root in enumerate(roots) if i != stands]


def _elsewhere(
    places: Sequence[tuple[Site, Mapping[int, int]]], needed: Sequence[tuple[Site, list[int]]], roots: Sequence[int]
) -> bool:
    """Says whether a layer that sees only some of these classes cannot do without them, or one sees a class twice."""
    whole = {id(site) for site, _ in needed}
    for site, held in places:
        if np.isin(site.labels, roots).sum() > sum(root in held for root in roots):
            return True
        if id(site) not in whole and any(not site.foldable[held[root]] for root in roots if root in held):
            return True
    return False


def _roots(scene: Scene, group: Group) -> Labels:
    first = group.members[0]
    return scene.atoms.roots(scene.labels[first.tensor][first.axis][first.places[:, 0]])


def _left(model: ir.Model, group: Group, roots: Labels, free: NDArray[np.bool_], verdicts: _Verdicts) -> dict[str, str]:
    """Says why filters of zeros stay."""
    zeros = next((slices(model, m) == 0).all(axis=1) for m in group.members if m.role == "makes")
    said = {**verdicts.merge, **verdicts.blocked}
    stuck = [said[root] for root in roots[zeros & ~free].tolist() if root in said]
    count = "one filter of zeros stays" if len(stuck) == 1 else f"{len(stuck)} filters of zeros stay"
    return {group.producers[0]: f"{count}: {stuck[0]}"} if stuck else {}
