"""What the solver knows of one node: its shapes, its parameters, the layouts it can work in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from edgewright.graph.channels_last.layouts import Layout, Shape, identity
from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import static_shape

if TYPE_CHECKING:
    from edgewright.graph.channels_last.editing import Edit


@dataclass(frozen=True, slots=True)
class Site:
    """A node whose shapes are known.

    Attributes:
        node: The node.
        takes: Shapes of its inputs; None for an absent one or one without a fixed shape.
        gives: Shapes of its outputs, likewise.
        opset: Version of the ONNX operator set.
    """

    node: ir.Node
    takes: tuple[Shape | None, ...]
    gives: tuple[Shape | None, ...]
    opset: int

    def number(self, name: str, default: int) -> int:
        """Returns an integer attribute."""
        found = self.node.attributes.get_int(name, default)
        return default if found is None else found

    def axis(self, default: int, rank: int) -> int:
        """Returns the attribute `axis`, never negative."""
        return self.number("axis", default) % max(rank, 1)

    def constant(self, index: int) -> Any:
        """Returns the values of a constant input, None where it is absent or computed."""
        inputs = self.node.inputs
        return numbers(inputs[index]) if index < len(inputs) else None

    def has(self, index: int) -> bool:
        """Says whether input `index` is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def data(self) -> tuple[Shape, Shape] | None:
        """Returns the shapes of the first input and the first output where both are known and hold anything."""
        if not self.takes or self.takes[0] is None or self.gives[0] is None or 0 in (*self.takes[0], *self.gives[0]):
            return None
        return self.takes[0], self.gives[0]

    def unmoved(self) -> tuple[Layout | None, ...]:
        """Returns the ONNX layout of every input."""
        return tuple(None if shape is None else identity(len(shape)) for shape in self.takes)


def site_of(node: ir.Node, opset: int) -> Site:
    """Reads a node."""
    takes = tuple(static_shape(value) for value in node.inputs)
    return Site(node, takes, tuple(static_shape(value) for value in node.outputs), opset)


@dataclass(frozen=True, slots=True)
class State:
    """One way in which a node can work.

    Attributes:
        takes: Layout in which it wants each input; None: whatever it is.
        gives: Layout of each output.
        cost: Bytes that the runtime moves inside the operator because of this choice.
        turned: A matrix product computed as the transposed product of its exchanged operands.
        adjoint: The right matrix of a product is stored with its last two axes exchanged.
    """

    takes: tuple[Layout | None, ...]
    gives: tuple[Layout | None, ...]
    cost: float = 0.0
    turned: bool = False
    adjoint: bool = False


Meets = Callable[[Site, int, Layout, State], State | None]
"""The state in which input (or output) `index` has a layout, None where the operator cannot; the last argument is the
present state, of which an operator keeps what the layout leaves open."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one operator lives with layouts.

    Attributes:
        enter: The state that takes an input in a layout.
        leave: The state that gives an output in a layout.
        rewrite: Changes attributes and parameters of the node to a state.
    """

    enter: Meets
    leave: Meets
    rewrite: Callable[[Site, State, Edit], None]


def standing(site: Site) -> State:
    """Returns the state in which the node is as ONNX has it."""
    return State(site.unmoved(), tuple(None if shape is None else identity(len(shape)) for shape in site.gives))


def unchanged(site: Site, state: State, edit: Edit) -> None:
    """Rewrites nothing."""
