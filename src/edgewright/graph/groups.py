"""Groups: the smallest sets of tensors that are quantised, or kept in float, together."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.core.target import Plan, Scheme, exactly
from edgewright.graph.placement import Placement, after_fused, decide
from edgewright.graph.shapes import static_shape


@dataclass(frozen=True, slots=True)
class Group:
    """Operators with weights that are kept in float together, because their results share a scale or their weights.

    Attributes:
        operators: Names of the nodes, in graph order.
        tensors: Everything that is quantised because of them: inputs, weights, fused activations, results.
        nodes: Everything that computes in float when they do: themselves, and activations behind them.
        feeds: First operators of the groups that read their results.
        elements: Values in their results; unknown shapes count as nothing.
    """

    operators: tuple[str, ...]
    tensors: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    elements: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """How a whole model is quantised: the arguments of `placement.decide`, and what came of it.

    Attributes:
        graph: Cleaned up, with types inferred and nodes named.
        scheme: What the runtime takes.
        keep_float: Patterns of operators that stay float anyway.
        ops: Quantise only these operators; all when empty.
        masked: Activations that 8 bits cannot hold.
    """

    graph: ir.Graph
    scheme: Scheme
    keep_float: tuple[str, ...]
    ops: tuple[str, ...]
    masked: Mapping[str, str]

    def without(self, names: Iterable[str]) -> Placement:
        """Decides with these operators kept in float too."""
        return decide(self.graph, self.scheme, (*self.keep_float, *map(exactly, names)), self.ops, self.masked)


def groups(choice: Choice) -> tuple[Group, ...]:
    """Returns the groups in graph order; every operator whose weights are quantised is in exactly one."""
    whole = choice.without(())
    everything = {value.name or "" for value in whole.values}
    members = _members(choice, whole)
    first = {node.name or "": nodes[0].name or "" for nodes in members for node in nodes}
    names = list(first)
    found = []
    for nodes in members:
        own = {node.name or "" for node in nodes}
        alone = {value.name or "" for value in choice.without(name for name in names if name not in own).values}
        kept = choice.without(own)
        tensors = (everything & alone) | (everything - {value.name or "" for value in kept.values})
        found.append(
            Group(
                operators=tuple(node.name or "" for node in nodes),
                tensors=(*(v.name or "" for v in whole.values if v.name in tensors), *_constants(nodes)),
                nodes=(*(n.name or "" for n in nodes), *_turned(whole, kept, own)),
                feeds=tuple(dict.fromkeys(first[name] for name in _readers(nodes, first) if name not in own)),
                elements=sum(math.prod(static_shape(node.outputs[0]) or (0,)) for node in nodes),
            )
        )
    return tuple(found)


def _turned(whole: Placement, kept: Placement, own: set[str]) -> tuple[str, ...]:
    """Returns what else computes in float, and did not."""
    return tuple(name for name in kept.kept_float if name not in whole.kept_float and name not in own)


def _readers(nodes: Iterable[ir.Node], anchors: Container[str]) -> list[str]:
    """Returns the anchors that results of `nodes` reach without passing another anchor."""
    pending = [use.node for node in nodes for value in node.outputs for use in value.uses()]
    seen: set[int] = set()
    found = []
    while pending:
        node = pending.pop(0)
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.name in anchors:
            found.append(node.name or "")
        else:
            pending.extend(use.node for value in node.outputs for use in value.uses())
    return found


def part_of(plan: Plan, group: Group) -> Plan:
    """Returns the plan of that group alone, with the scales of the whole plan."""
    tensors = set(group.tensors)
    return Plan(plan.scheme, tuple(tensor for tensor in plan.tensors if tensor.tensor in tensors))


def _members(choice: Choice, whole: Placement) -> list[list[ir.Node]]:
    """Joins operators whose results share a scale, and operators that share weights."""
    found: dict[str, list[ir.Node]] = {}
    owner: dict[str, str] = {}
    for node in whole.anchors:
        result = after_fused(node.outputs[0], choice.scheme.fused).name or ""
        keys = {whole.groups.get(result, result), *_constants([node])}
        known = {owner[key] for key in keys if key in owner}
        first = min(known, key=list(found).index) if known else node.name or ""
        for other in known - {first}:
            found[first] += found.pop(other)
            owner.update({key: first for key, mine in owner.items() if mine == other})
        found.setdefault(first, []).append(node)
        owner.update(dict.fromkeys(keys, first))
    return list(found.values())


def _constants(nodes: Iterable[ir.Node]) -> tuple[str, ...]:
    read = [value for node in nodes for value in node.inputs[1:]]
    return tuple(dict.fromkeys(v.name or "" for v in read if v is not None and v.const_value is not None))
