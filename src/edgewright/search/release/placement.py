"""Nodes that run elsewhere than in the old release."""

from __future__ import annotations

from collections.abc import Iterable

from edgewright.core.target import NodePlacement
from edgewright.search.release.values import Moved

_INTEGERS = ("int8", "uint8", "int16", "uint16", "int4", "integer")
_PROCESSOR = "CPU"


def moved(old: Iterable[NodePlacement], new: Iterable[NodePlacement]) -> tuple[Moved, ...]:
    """Compares two placements by the names of the model's own nodes, those that left something good first.

    Nodes that only one of the models has are not told: another architecture has other names.
    """
    before, after = _by_source(old), _by_source(new)
    found = []
    for node in before.keys() & after.keys():
        one, other = before[node], after[node]
        if (one.precision, one.where) != (other.precision, other.where):
            left = _quick(one) and not _quick(other)
            found.append(Moved(node, _shown(one), _shown(other), left, other.note))
    return tuple(sorted(found, key=lambda each: (not each.left, each.node)))


def _by_source(placement: Iterable[NodePlacement]) -> dict[str, NodePlacement]:
    return {name: node for node in placement for name in node.source or (node.node,)}


def _quick(node: NodePlacement) -> bool:
    return node.precision in _INTEGERS or node.where != _PROCESSOR


def _shown(node: NodePlacement) -> str:
    return f"{node.precision} on {node.where}"
