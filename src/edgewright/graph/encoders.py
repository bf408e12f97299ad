"""The layers of a transformer in its graph, found by what every path goes through, and some of them taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from edgewright.errors import ConfigError
from edgewright.graph.shapes import refresh_shapes

_ATTENTION = ("Softmax", "Attention")
_HINT = "take a student of the catalogue, or a transformer whose layers follow each other and are built alike"


@dataclass(frozen=True, slots=True)
class Layer:
    """One encoder layer: what comes in, what goes out, and the operators between."""

    entry: ir.Value
    exit: ir.Value
    operators: tuple[str, ...]


def encoder_layers(model: ir.Model) -> tuple[Layer, ...]:
    """Finds the layers of a transformer.

    The hidden state is followed from where it is first computed: a tensor is a *cut* when every path from there to the
    output goes through it. Masks and positions come in from the side and are no part of it. The cuts of the most
    common shape bound the parts of layers; a layer starts at each attention and ends where the next starts.

    Args:
        model: With inferred shapes.

    Raises:
        ConfigError: There are no two attentions, or the layers are not built alike.
    """
    cuts = _cuts(model)
    shapes = Counter(_shape(value) for value in cuts if value.shape is not None and len(value.shape) == 3)
    if not shapes:
        raise ConfigError("the model has no hidden state of three axes to find layers by", hint=_HINT)
    trunk = [value for value in cuts if _shape(value) == shapes.most_common(1)[0][0]]
    parts = [_between(model, one, other) for one, other in pairwise(trunk)]
    starts = [index for index, part in enumerate(parts) if any(node.op_type in _ATTENTION for node in part)]
    if len(starts) < 2:
        raise ConfigError(f"the model has {len(starts)} layers with attention, two are needed", hint=_HINT)
    ends = [*starts[1:], min(2 * starts[-1] - starts[-2], len(parts))]
    layers = [
        Layer(trunk[start], trunk[end], tuple(node.op_type for part in parts[start:end] for node in part))
        for start, end in zip(starts, ends, strict=True)
    ]
    _require_alike(layers)
    return tuple(layers)


def keep_layers(model: ir.Model, kept: Sequence[int]) -> tuple[int, int]:
    """Takes all encoder layers but `kept` out of `model`, in place; what the others compute stays as it is.

    Args:
        model: With inferred shapes.
        kept: Positions, from 0; every second one when empty.

    Returns:
        How many layers there are now, and how many there were.

    Raises:
        ConfigError: The layers cannot be told apart, or a position is none of them.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    layers = encoder_layers(model)
    wanted = tuple(kept) or tuple(range(0, len(layers), 2))
    if list(wanted) != sorted(set(wanted)) or not set(wanted) <= set(range(len(layers))):
        hint = f"positions from 0 to {len(layers) - 1}, each once and rising, such as {tuple(range(0, len(layers), 2))}"
        raise ConfigError(f"layers {wanted} cannot be kept of {len(layers)}", hint=hint)
    replaced: dict[int, ir.Value] = {}
    for index, layer in enumerate(layers):
        if index not in wanted:
            _replace(layer.exit, replaced.get(id(layer.entry), layer.entry))
            replaced[id(layer.exit)] = replaced.get(id(layer.entry), layer.entry)
    RemoveUnusedNodesPass()(model)
    refresh_shapes(model)
    return len(wanted), len(layers)


def _replace(old: ir.Value, new: ir.Value) -> None:
    for node, index in list(old.uses()):
        node.replace_input_with(index, new)


def _require_alike(layers: Sequence[Layer]) -> None:
    for index, layer in enumerate(layers):
        if sorted(layer.operators) != sorted(layers[0].operators):
            message = f"layer {index} has {len(layer.operators)} operators, layer 0 has {len(layers[0].operators)}"
            raise ConfigError(f"the layers are not built alike: {message}", hint=_HINT)


def _shape(value: ir.Value) -> tuple[int | None, ...]:
    """Returns the shape behind the batch axis; inference calls one open axis by many names."""
    return tuple(d if isinstance(d, int) else None for d in list(value.shape or ())[1:])


def _start(model: ir.Model) -> ir.Value:
    """Returns the first floating tensor of the path: what a table gives, else an input."""
    for node in model.graph:
        table = node.inputs[0] if node.op_type == "Gather" else None
        if table is not None and table.const_value is not None and len(table.const_value.shape) == 2:
            return node.outputs[0]
    return model.graph.inputs[0]


def _cuts(model: ir.Model) -> list[ir.Value]:
    """Returns, in order, the tensors that every path from the start to the first output goes through.

    They are the dominators of the output (Cooper et al. 2001, of a graph without cycles).
    """
    start = _start(model)
    parent: dict[ir.Value, ir.Value | None] = {start: None}
    depth: dict[ir.Value, int] = {start: 0}
    for node in model.graph:
        known = [value for value in node.inputs if value in depth]
        if not known or start in node.outputs:
            continue
        meet = known[0]
        for other in known[1:]:
            meet = _common(meet, other, parent, depth)
        for value in node.outputs:
            parent[value], depth[value] = meet, depth[meet] + 1
    return _chain(model.graph.outputs[0], parent)


def _chain(end: ir.Value, parent: dict[ir.Value, ir.Value | None]) -> list[ir.Value]:
    value: ir.Value | None = end if end in parent else None
    found: list[ir.Value] = []
    while value is not None:
        found.append(value)
        value = parent[value]
    return found[::-1]


def _common(
    one: ir.Value, other: ir.Value, parent: dict[ir.Value, ir.Value | None], depth: dict[ir.Value, int]
) -> ir.Value:
    """Returns the last tensor that both go through."""
    while one is not other:
        if depth[one] < depth[other]:
            one, other = other, one
        above = parent[one]
        assert above is not None
        one = above
    return one


def _between(model: ir.Model, one: ir.Value, other: ir.Value) -> list[ir.Node]:
    """Returns the nodes on the paths from one cut to the next, in the graph's order."""
    ahead, pending = {one}, [one]
    while pending:
        value = pending.pop()
        made = [] if value is other else [out for node in value.consumers() for out in node.outputs]
        pending += [out for out in made if out not in ahead]
        ahead.update(made)
    behind, pending = {other}, [other]
    while pending:
        node = pending.pop().producer()
        inputs = node.inputs if node is not None else ()
        given = [each for each in inputs if each is not None and each in ahead and each not in behind]
        pending += [each for each in given if each is not one]
        behind.update(given)
    return [node for node in model.graph if any(value in behind and value is not one for value in node.outputs)]
