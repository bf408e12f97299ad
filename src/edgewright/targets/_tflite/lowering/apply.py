"""Applies the rules until none has anything left to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import refresh_shapes, static_shape

_ROUNDS = 6


class Lowering:
    """Builds the nodes that replace one node; they stand before it."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._node: ir.Node | None = None
        self._made = 0

    def at(self, node: ir.Node) -> Lowering:
        """Returns itself, building before `node`."""
        self._node = node
        return self

    def add(
        self, op: str, inputs: Sequence[ir.Value | NDArray[Any] | None], *, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Adds a node with one output and returns that."""
        return self.add_many(op, inputs, 1, domain=domain, **attributes)[0]

    def add_many(
        self,
        op: str,
        inputs: Sequence[ir.Value | NDArray[Any] | None],
        count: int,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Adds a node with `count` outputs and returns them; arrays among the inputs become constants."""
        assert self._node is not None
        self._made += 1
        base = f"{self._node.name}/{op}_{self._made}"
        taken = [self.constant(i) if isinstance(i, np.ndarray | np.generic) else i for i in inputs]
        outputs = [ir.Value(name=f"{base}:{index}" if index else base) for index in range(count)]
        made = ir.node(op, taken, attributes, domain=domain, outputs=outputs, name=base)
        self.model.graph.insert_before(self._node, made)
        return outputs

    def constant(self, array: NDArray[Any] | np.generic, name: str = "") -> ir.Value:
        """Adds an initialiser and returns it."""
        assert self._node is not None
        return add_initializer(self.model.graph, f"{self._node.name}/{name or 'constant'}", np.asarray(array))

    def number(self, index: int) -> NDArray[Any] | None:
        """Returns the value of a constant input of the node; None where it is computed or left out."""
        assert self._node is not None
        return numbers(self._node.inputs[index]) if index < len(self._node.inputs) else None

    def shape(self, index: int = 0) -> tuple[int, ...] | None:
        """Returns the shape of an input of the node."""
        assert self._node is not None
        return static_shape(self._node.inputs[index]) if index < len(self._node.inputs) else None


Rule = Callable[[Lowering, ir.Node], Sequence[ir.Value] | None]


def lower(model: ir.Model, rules: Mapping[str, Rule]) -> ir.Model:
    """Returns the model with every node taken apart that a rule wants to; shapes are known again."""
    lowering = Lowering(model)
    for _ in range(_ROUNDS):
        if not sum(_replace(lowering, node, rules) for node in list(model.graph)):
            return model
        ir.passes.common.RemoveUnusedNodesPass()(model)
        refresh_shapes(model)
    return model


def _replace(lowering: Lowering, node: ir.Node, rules: Mapping[str, Rule]) -> bool:
    rule = rules.get(node.op_type) if node.domain == "" else None
    made = rule(lowering.at(node), node) if rule is not None else None
    if made is None:
        return False
    for old, new in zip(node.outputs, made, strict=True):
        plain = old.is_graph_output() and (new.producer() is None or new.is_graph_output())
        _take_place(node.graph, old, lowering.add("Identity", [new]) if plain else new)
    node.graph.remove(node, safe=True)  # type: ignore[union-attr]
    return True


def _take_place(graph: Any, old: ir.Value, new: ir.Value) -> None:
    """Lets `new` serve the readers of `old` under its name, which parity and callers know."""
    name, producer = old.name, new.producer()
    new.type, new.shape = new.type or old.type, new.shape or old.shape
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if producer is not None and not new.is_graph_input():
        old.name = f"{name}/before"
        new.name = name
