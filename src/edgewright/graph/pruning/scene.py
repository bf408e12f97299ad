"""What the rules of operators see and write while a graph is traced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.pruning.atoms import Atoms, Labels, moves, still
from edgewright.graph.quantisers import numbers

Axes = list[Labels]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything known so far.

    Attributes:
        atoms: Which channels go together.
        shapes: Tensor name -> sizes, free axes bound to a number.
        others: The same bound to other numbers.
        labels: Tensor name -> labels of each axis.
        constants: Floating initialisers seen.
        silent: Tensors that are zero in a channel whose weights, biases and constants are all zero.
        roles: (initialiser, axis) -> `makes` or `reads`: does a layer make these channels or read them.
        makers: (initialiser, axis) -> the nodes behind the role.
        version: Opset.
        carriers: Reshape node -> place, counted from the usual one, of the axis that tells channels apart.
        carried: Reshape node -> labels of that axis, where there was a choice.
    """

    atoms: Atoms
    shapes: Mapping[str, tuple[int, ...]]
    others: Mapping[str, tuple[int, ...]]
    version: int
    carriers: Mapping[str, int] = field(default_factory=dict)
    carried: dict[str, Labels] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    labels: dict[str, Axes] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    roles: dict[tuple[str, int], str] = field(default_factory=dict)
    makers: dict[tuple[str, int], list[str]] = field(default_factory=dict)

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """Returns the bound sizes of `value`.

        Raises:
            KeyError: They are not known.
        """
        return self.shapes[_name(value)]

    def fixed_size(self, value: ir.Value, axis: int) -> bool:
        """Says whether the size of an axis does not depend on the samples."""
        name = _name(value)
        return self.shapes[name][axis] == self.others[name][axis]

    def of(self, value: ir.Value | None) -> Axes:
        """Returns the labels of each axis of `value`; one never seen stands still."""
        name = _name(value)
        if name not in self.labels:
            made = value is not None and value.is_initializer() and _is_float(value)
            fresh = self.atoms.fresh if made else still
            self.labels[name] = [fresh(size) for size in self.shapes.get(name, ())]
            if made:
                self.constants.add(name)
                self.silent.add(name)
        return self.labels[name]

    def give(self, value: ir.Value, axes: Sequence[Labels]) -> None:
        """Says what the axes of an output are."""
        self.labels[_name(value)] = list(axes)

    def quiet(self, value: ir.Value | None) -> bool:
        """Says whether `value` is zero in a channel all of whose weights are; one left out is."""
        self.of(value)
        return value is None or _name(value) in self.silent

    def silence(self, value: ir.Value, quiet: bool) -> None:
        """Notes whether an output is zero in a channel all of whose weights are."""
        if quiet:
            self.silent.add(_name(value))

    def role(self, value: ir.Value | None, axis: int, role: str, node: ir.Node) -> None:
        """Notes that `node` makes, or reads, channels along an axis of a weight."""
        if value is not None and value.is_initializer():
            key = (_name(value), axis % max(len(self.shape(value)), 1))
            self.roles[key] = role
            self.makers.setdefault(key, []).append(node.name or "")

    def fix(self, labels: Labels, node: ir.Node, why: str) -> None:
        """Says that channels have to stay because of `node`."""
        if moves(labels):
            self.atoms.fix(labels, f"{node.op_type} `{node.name}` {why}")

    def tie(self, first: Labels, second: Labels, node: ir.Node) -> None:
        """Makes channels go together because of `node`."""
        self.atoms.tie(first, second, f"{node.op_type} `{node.name}` joins it with something that stays")

    def tie_rows(self, table: Labels, node: ir.Node) -> None:
        """Makes the channels of every row of `table` go together because of `node`."""
        self.atoms.tie_rows(table, f"{node.op_type} `{node.name}` joins it with something that stays")


def words(text: str) -> frozenset[str]:
    """Returns the words of a text: a set of operators that is easy to read."""
    return frozenset(text.split())


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """Returns an input, None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def integers(value: ir.Value | None) -> NDArray[np.int64] | None:
    """Returns constant integers as a flat array, None where they are not known."""
    found = numbers(value)
    return None if found is None else np.asarray(found, np.int64).reshape(-1)


def ints(node: ir.Node, attribute: str, index: int | None) -> NDArray[np.int64] | None:
    """Returns integers that are an attribute in old opsets and an input in newer ones; None where neither is known."""
    if attribute in node.attributes:
        given = node.attributes[attribute].value
        return np.atleast_1d(np.asarray(given, np.int64))
    return integers(operand(node, index)) if index is not None else None


def _name(value: ir.Value | None) -> str:
    return "" if value is None else value.name or ""


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()
