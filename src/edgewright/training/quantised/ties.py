"""Which quantisers have one scale because the same integers pass through an operator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgewright.graph.placement import data_inputs
from edgewright.graph.quantisers import Quantiser
from edgewright.graph.schemes import find, names


def movers() -> frozenset[str]:
    """Returns the operators that pass integers through in any scheme."""
    return frozenset(op for name in names() for op in find(name).shared)


def tied(graph: ir.Graph, quantisers: Sequence[Quantiser]) -> tuple[tuple[Quantiser, ...], ...]:
    """Groups activation quantisers that must keep one scale and zero point.

    Those around an operator that can move integers, with equal numbers: where the scheme wants one scale the numbers
    are equal, and where they are equal by chance nothing is lost by keeping them so.
    """
    parent: dict[int, int] = {}
    moving = movers()
    for node in graph:
        if node.op_type in moving:
            around = [*data_inputs(node), *node.outputs]
            for value in around[1:]:
                _join(parent, id(around[0]), id(value))
    for found in quantisers:
        _join(parent, id(found.source), id(found.node.outputs[0]))
    groups: dict[tuple[object, ...], list[Quantiser]] = {}
    for found in quantisers:
        groups.setdefault((_root(parent, id(found.source)), *_numbers(found)), []).append(found)
    return tuple(tuple(group) for group in groups.values())


def _numbers(found: Quantiser) -> tuple[object, ...]:
    assert found.scale is not None
    return found.dtype, found.scale.tobytes(), np.asarray(found.zero_point).tobytes(), found.axis


def _root(parent: dict[int, int], key: int) -> int:
    while parent.get(key, key) != key:
        key = parent[key]
    return key


def _join(parent: dict[int, int], first: int, second: int) -> None:
    parent[_root(parent, first)] = _root(parent, second)
