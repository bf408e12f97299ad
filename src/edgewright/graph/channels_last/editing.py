"""Changes the graph to the layouts chosen: moves where they differ, constants stored anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last.constants import is_constant
from edgewright.graph.channels_last.layouts import (
    Layout,
    Move,
    Shape,
    channels_last,
    identity,
    moves,
    stored,
    stored_shape,
)
from edgewright.graph.channels_last.marks import mark
from edgewright.graph.quantisers import DEQUANTISED
from edgewright.graph.shapes import static_shape


class Edit:
    """A graph being rewritten.

    Args:
        graph: Changed in place.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._first = next(iter(graph), None)
        self._shapes: dict[ir.Value, Shape] = {}
        self._held: dict[ir.Value, tuple[ir.Value, Layout]] = {}
        self._made: dict[tuple[ir.Value, Layout, bool], ir.Value] = {}
        self._names = {value.name for node in graph for value in node.outputs}
        self._names |= {value.name for value in graph.inputs} | set(graph.initializers)

    def settle(self, value: ir.Value, layout: Layout | None) -> None:
        """Says that `value` is now stored as `layout`; its shape and its mark follow."""
        shape = static_shape(value)
        if shape is None or layout is None:
            return
        self._shapes[value] = shape
        self._held[value] = (value, layout)
        if not layout.plain:
            value.shape = ir.Shape(stored_shape(layout, shape))
            mark(value, layout)

    def rename(self, value: ir.Value, source: ir.Value, layout: Layout) -> None:
        """Says that `value` is what `source` holds, read as `layout`."""
        self._shapes[value] = static_shape(value) or ()
        self._held[value] = (source, layout)

    def held(self, value: ir.Value) -> tuple[ir.Value, Layout]:
        """Returns where a value is stored, and how."""
        return self._held.get(value) or (value, identity(len(static_shape(value) or ())))

    def fetch(self, value: ir.Value, want: Layout, reader: str, *, quantises: bool = False) -> ir.Value:
        """Returns `value` in layout `want`, moved where it is stored otherwise.

        Args:
            value: In the graph as it was.
            want: The layout.
            reader: Name of what needs it.
            quantises: The reader is a quantiser itself.
        """
        if is_constant(value):
            return value if want.plain else self._constant(value, want)
        source, have = self.held(value)
        if have == want:
            return source
        key = (value, want, quantises)
        if key not in self._made:
            self._made[key] = self._moved(value, source, have, want, reader, pair=not quantises)
        return self._made[key]

    def parameter(self, node: ir.Node, index: int, array: Any) -> None:
        """Gives a node a constant input."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        name = (old.name if old is not None else None) or f"{node.name}/{index}"
        node.replace_input_with(
            index, self.constant(array, f"{name}/channels_last", None if old is None else old.dtype)
        )

    def constant(self, array: Any, name: str, dtype: ir.DataType | None = None) -> ir.Value:
        """Stores a constant."""
        name = self._unique(name)
        tensor = ir.tensor(np.asarray(array, order="C"), dtype=dtype, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(tensor.shape.numpy()), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def shape_now(self, value: ir.Value) -> Shape:
        """Returns the shape of a value as it is stored."""
        return static_shape(value) or ()

    def become_reshape(self, node: ir.Node, shape: Shape) -> None:
        """Makes a node that renames axes a Reshape to `shape`."""
        node.op_type = "Reshape"
        node.attributes.clear()
        if len(node.inputs) != 2:
            node.resize_inputs(2)
        node.replace_input_with(1, self.constant(np.array(shape, np.int64), f"{node.name}/shape"))

    def reshaped(self, value: ir.Value, shape: Shape, reader: ir.Node) -> ir.Value:
        """Returns a stored value with other axes of size one."""
        if value.is_initializer() and value.const_value is not None:
            return self.constant(value.const_value.numpy().reshape(shape), f"{value.name}/fitted", value.dtype)
        node = value.producer()
        if node is not None and is_constant(value) and node.inputs[0] is not None:
            axis = _same_axis(self.shape_now(value), shape, node.attributes.get_int("axis", 1) or 0)
            return self._copied(node, [self.reshaped(node.inputs[0], shape, reader), *node.inputs[1:]], axis, shape)
        return self._in_integers(value, self._reshape(value, shape, f"{reader.name}/fit", value.name or ""))

    def turn_right_matrix(self, node: ir.Node) -> None:
        """Exchanges the last two axes of the right operand, just before the product and for it alone."""
        value = node.inputs[1]
        assert value is not None
        shape = self.shape_now(value)
        rank = len(shape)
        perm = (*range(rank - 2), rank - 1, rank - 2)
        name = self._unique(f"{node.name}/adjoint")
        turn = ir.Node("", "Transpose", [value], {"perm": ir.AttrInt64s("perm", perm)}, name=name)
        self.graph.insert_before(node, [turn])
        self._describe(turn, value, tuple(shape[axis] for axis in perm), name, value.dtype)
        node.replace_input_with(1, turn.outputs[0])

    def _constant(self, value: ir.Value, want: Layout) -> ir.Value:
        key = (value, want, False)
        if key not in self._made:
            node = value.producer()
            if node is None and value.const_value is not None:
                array = stored(value.const_value.numpy(), want)
                self._made[key] = self.constant(array, f"{value.name}/channels_last", value.dtype)
            else:
                assert node is not None
                self._made[key] = self._requantised(node, value, want)
        return self._made[key]

    def _requantised(self, node: ir.Node, value: ir.Value, want: Layout) -> ir.Value:
        """Returns a copy of constant quantisers whose integers are stored as `want`."""
        axis = (node.attributes.get_int("axis", 1) or 0) % max(len(want.order), 1)
        data, *rest = (given for given in node.inputs if given is not None)
        along = [part for part in want.inner if part.axis == axis]
        parameters = [
            self.fetch(given, Layout((0,), tuple(type(p)(0, p.sizes, p.order) for p in along)), node.name or "")
            if along and static_shape(given) not in ((), (1,))
            else given
            for given in rest
        ]
        inputs = [self.fetch(data, want, node.name or ""), *parameters]
        return self._copied(node, inputs, want.order.index(axis), stored_shape(want, static_shape(value) or ()))

    def _copied(self, node: ir.Node, inputs: Sequence[ir.Value | None], axis: int, shape: Shape) -> ir.Value:
        attributes = {name: attr for name, attr in node.attributes.items() if name != "axis"}
        if any(len(static_shape(given) or ()) == 1 for given in inputs[1:] if given is not None):
            attributes["axis"] = ir.AttrInt64("axis", axis)
        old = node.outputs[0]
        copy = ir.Node(node.domain, node.op_type, inputs, attributes, name=self._unique(f"{node.name}/channels_last"))
        return self._insert(copy, old, old, shape, f"{old.name}/channels_last", old.dtype)

    def _moved(
        self, value: ir.Value, source: ir.Value, have: Layout, want: Layout, reader: str, *, pair: bool
    ) -> ir.Value:
        base, now = (value.name or "").removesuffix(DEQUANTISED), source
        steps = _steps(moves(have, want, self._shapes.get(value) or static_shape(value) or ()))
        for count, (kind, numbers) in enumerate(steps, start=1):
            if kind == "Transpose":
                now = self._transpose(now, numbers, f"{reader}/{base}/transpose", f"{base}/{_order_name(want)}")
            else:
                now = self._reshape(now, numbers, f"{reader}/{base}/reshape", base)
            if pair or count < len(steps):
                channel = self._channel(value, source)
                last = None if channel is None else want.order.index(channel)
                now = self._in_integers(source, now, last if count == len(steps) else None)
        return now

    def _in_integers(self, source: ir.Value, moved: ir.Value, axis: int | None = None) -> ir.Value:
        """Returns what was moved, quantised again where `source` is a dequantised activation."""
        node = source.producer()
        if node is None or node.op_type != "DequantizeLinear" or is_constant(source):
            return moved
        if axis is None and static_shape(node.inputs[1]) not in ((), (1,)):
            return moved
        return self._paired(node, moved, axis)

    def _channel(self, value: ir.Value, source: ir.Value) -> int | None:
        """Returns the channel axis of a per-channel activation in ONNX order, where `value` is what was quantised."""
        node = source.producer()
        if node is None or node.op_type != "DequantizeLinear" or self.held(value)[0] is not value:
            return None
        if static_shape(node.inputs[1]) in ((), (1,)):
            return None
        _, have = self.held(value)
        return have.order[(node.attributes.get_int("axis", 1) or 0) % len(have.order)]

    def _paired(self, node: ir.Node, value: ir.Value, axis: int | None) -> ir.Value:
        """Quantises what was moved with the parameters it had, so that the move and its reader stay in integers."""
        integers, *parameters = node.inputs
        assert integers is not None
        attributes = {"axis": ir.AttrInt64("axis", axis)} if axis is not None else {}
        shape, name = static_shape(value) or (), value.name or ""
        quantise = ir.Node("", "QuantizeLinear", [value, *self._zeroed(parameters, integers.dtype)], attributes)
        quantise.name = self._unique(f"{name}/quantise")
        stored_integers = self._insert(quantise, value, value, shape, f"{name}/quantised", integers.dtype)
        dequantise = ir.Node("", "DequantizeLinear", [stored_integers, *parameters], attributes)
        dequantise.name = self._unique(f"{name}/dequantise")
        return self._insert(dequantise, stored_integers, value, shape, f"{name}{DEQUANTISED}", value.dtype)

    def _zeroed(self, parameters: list[ir.Value | None], dtype: ir.DataType | None) -> list[ir.Value | None]:
        """Returns scale and zero point; the latter is what names the type."""
        if len(parameters) > 1 or dtype is None or dtype == ir.DataType.UINT8 or parameters[0] is None:
            return parameters
        zero = np.zeros(static_shape(parameters[0]) or (), dtype.numpy())
        return [*parameters, self.constant(zero, f"{parameters[0].name}/zero_point", dtype)]

    def _reshape(self, value: ir.Value, shape: Shape, name: str, base: str) -> ir.Value:
        target = self.constant(np.array(shape, np.int64), f"{name}/shape")
        node = ir.Node("", "Reshape", [value, target], name=self._unique(name))
        return self._insert(node, value, value, shape, f"{base}/reshaped", value.dtype)

    def _transpose(self, value: ir.Value, perm: Shape, name: str, output: str) -> ir.Value:
        node = ir.Node("", "Transpose", [value], {"perm": ir.AttrInt64s("perm", perm)}, name=self._unique(name))
        shape = static_shape(value) or ()
        return self._insert(node, value, value, tuple(shape[axis] for axis in perm), output, value.dtype)

    def _insert(
        self, node: ir.Node, after: ir.Value, like: ir.Value, shape: Shape, name: str, dtype: ir.DataType | None
    ) -> ir.Value:
        producer = after.producer()
        if producer is not None:
            self.graph.insert_after(producer, [node])
        elif self._first is not None:
            self.graph.insert_before(self._first, [node])
        else:
            self.graph.append(node)
        return self._describe(node, like, shape, name, dtype)

    def _describe(self, node: ir.Node, like: ir.Value, shape: Shape, name: str, dtype: ir.DataType | None) -> ir.Value:
        out = node.outputs[0]
        out.name, out.shape = self._unique(name), ir.Shape(shape)
        out.type = ir.TensorType(dtype) if dtype is not None else like.type
        return out

    def _unique(self, name: str) -> str:
        found, count = name, 1
        while found in self._names:
            found, count = f"{name}_{count}", count + 1
        self._names.add(found)
        return found


def _steps(given: Sequence[Move]) -> list[tuple[str, Shape]]:
    steps = []
    for move in given:
        steps += [("Reshape", move.split), ("Transpose", move.perm), ("Reshape", move.joined)]
    return [(kind, numbers) for kind, numbers in steps if numbers is not None]


def _order_name(layout: Layout) -> str:
    if layout.plain:
        return "as_declared"
    rank = len(layout.order)
    if rank > 2 and layout == channels_last(rank):
        return "channels_last"
    return "order_" + "_".join(str(axis) for axis in layout.order)


def _same_axis(before: Shape, after: Shape, axis: int) -> int:
    """Returns where `axis` lies once axes of size one were added or taken away."""
    wanted = [i for i, size in enumerate(before) if size != 1].index(axis % len(before)) if before[axis] != 1 else 0
    return [i for i, size in enumerate(after) if size != 1][wanted] if before[axis] != 1 else 0
