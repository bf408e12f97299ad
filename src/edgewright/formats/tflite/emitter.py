"""ONNX being written from a TensorFlow Lite graph, with every activation known in one or two layouts.

TensorFlow Lite is channels-last, ONNX convolutions are channels-first. A rule asks for the layout it needs; a Transpose
is written only when that layout does not exist yet, so chains of channels-first operators need none inside.

An activation of scaled integers is a float value behind QuantizeLinear and DequantizeLinear with the file's numbers;
scaled constants stay integers behind DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.formats.tflite.reader import TfliteGraph, TfliteTensor

DEQUANTISED = "/dequantised"

TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)
_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}


class Emitter:
    """Collects nodes and initialisers; tensors are named by their number in the file.

    Args:
        graph: What is translated.
        integer_io: Inputs and outputs that the file declares as scaled integers are integers in ONNX too.
    """

    def __init__(self, graph: TfliteGraph, *, integer_io: bool = False) -> None:
        self.graph = graph
        self.tensors = tuple(replace(tensor, name=_short(tensor.name)) for tensor in graph.tensors)
        self.integer_io = integer_io
        self.keeps_integers = any(t.scaled and t.data is None for t in graph.tensors)
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._last: dict[int, ir.Value] = {}
        self._first: dict[int, ir.Value] = {}
        self._folded: dict[int, NDArray[Any]] = {}
        self.opset = 21 if any(t.scaled and t.dtype == "int16" for t in graph.tensors) else 18
        self._used: set[str] = set()
        self._grids: dict[tuple[Any, ...], list[ir.Value]] = {}
        self._stored: dict[tuple[Any, ...], ir.Value] = {}

    def need_opset(self, least: int) -> None:
        """Records that an operator came with opset `least`."""
        self.opset = max(self.opset, least)

    def tensor(self, number: int) -> TfliteTensor:
        """Returns the tensor of the file, its name cut to what a reader needs."""
        return self.tensors[number]

    def array(self, number: int) -> NDArray[Any] | None:
        """Returns the real value of a constant, None for an activation."""
        if number in self._folded:
            return self._folded[number]
        return None if self.tensor(number).data is None else self.tensor(number).real()

    def need_array(self, number: int) -> NDArray[Any]:
        """Returns the real value of a tensor that must be constant.

        Raises:
            SourceError: It is an activation.
        """
        value = self.array(number)
        if value is None:
            raise SourceError(
                f'tensor "{self.tensor(number).name}" is computed, a constant is expected there',
                hint="convert the model with constant parameters and fixed sizes",
            )
        return value

    def fold(self, number: int, value: NDArray[Any]) -> None:
        """Records that a tensor turned out to be constant."""
        self._folded[number] = value
        self._last.pop(number, None)
        self._first.pop(number, None)

    def constant(self, value: NDArray[Any], name: str) -> ir.Value:
        """Adds an initialiser and returns it."""
        unique = self._unique(name)
        made = ir.Value(
            name=unique,
            type=ir.TensorType(ir.DataType.from_numpy(value.dtype)),
            shape=ir.Shape(value.shape),
            const_value=ir.tensor(np.ascontiguousarray(value).reshape(value.shape), name=unique),
        )
        self.initializers.append(made)
        return made

    def weights(self, number: int, order: Sequence[int] | None = None, shape: Sequence[int] | None = None) -> ir.Value:
        """Returns a tensor in another order of axes; stored scaled integers stay so, with their axis moved along.

        Args:
            number: Of the tensor, most often a constant.
            order: Permutation of the axes, after `shape`.
            shape: Of a constant: its shape with axes of size 1 added in front; None for the file's.
        """
        sizes = tuple(shape or self.tensor(number).shape)
        order = tuple(range(len(sizes))) if order is None else tuple(order)
        key = (number, sizes, order)
        if key not in self._stored:
            constant = self.array(number) is not None
            self._stored[key] = self._constant(number, sizes, order) if constant else self._turned(number, order)
        return self._stored[key]

    def _constant(self, number: int, sizes: tuple[int, ...], order: tuple[int, ...]) -> ir.Value:
        tensor = self.tensor(number)
        if not (self.keeps_integers and tensor.scaled) or number in self._folded:
            return self.constant(self.need_array(number).reshape(sizes).transpose(order), tensor.name)
        assert tensor.data is not None
        stored = self.constant(tensor.data.reshape(sizes).transpose(order), f"{tensor.name}/quantised")
        axis = order.index(tensor.axis + len(sizes) - len(tensor.shape)) if len(tensor.scale) > 1 else None
        grid = self._grid(tensor.dtype, tensor.scale, tensor.zero_point, tensor.name)
        return self.dequantized(stored, grid, tensor.name, axis)

    def _turned(self, number: int, order: tuple[int, ...]) -> ir.Value:
        name = f"{self.tensor(number).name}_turned"
        return self.rounded(number, self.node("Transpose", [self.last(number)], name, perm=order))

    def bias(self, number: int, scale: Sequence[float]) -> ir.Value:
        """Returns what an operator adds to its sums: 32-bit integers stay stored, wider ones become float32.

        Args:
            number: Of the tensor.
            scale: Of the sums, input scale x weight scale; taken where the file states no scale.
        """
        tensor = self.tensor(number)
        if tensor.data is None or tensor.dtype not in ("int32", "int64"):
            return self.last(number)
        stated = tensor.scale if tensor.scale and min(tensor.scale) > 0 else tuple(scale)
        scales = np.asarray(stated, np.float64)
        if tensor.dtype == "int64" or not self.keeps_integers:
            return self.constant((tensor.data * scales).astype(np.float32), tensor.name)
        constant = self.constant(tensor.data, f"{tensor.name}/quantised")
        axis = 0 if len(stated) > 1 else None
        return self.dequantized(constant, self._grid("int32", stated, (), tensor.name), tensor.name, axis)

    def dequantized(self, integers: ir.Value, grid: Sequence[ir.Value], name: str, axis: int | None = None) -> ir.Value:
        """Adds a DequantizeLinear; `grid` is scale and zero point."""
        attributes = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", [integers, *grid], f"{name}{DEQUANTISED}", **attributes)

    def _grid(self, dtype: str, scale: Sequence[float], zero: Sequence[int], name: str) -> list[ir.Value]:
        """Returns scale and zero point as constants, each pair written once; 32-bit integers have no zero point."""
        key = (dtype, tuple(scale), tuple(zero))
        if key not in self._grids:
            shape = (len(scale),) if len(scale) > 1 else ()
            self._grids[key] = [self.constant(np.asarray(scale, np.float32).reshape(shape), f"{name}/scale")]
            if dtype != "int32":
                kind = "int8" if dtype == "int4" else dtype
                self._grids[key].append(self.constant(np.asarray(zero, kind).reshape(shape), f"{name}/zero_point"))
        return self._grids[key]

    def rounded(self, number: int, value: ir.Value) -> ir.Value:
        """Returns `value` as the integers of a tensor would hold it; itself where the tensor is no scaled integer."""
        tensor = self.tensor(number)
        if not tensor.scaled or number in self._folded:
            return value
        grid = self._grid(tensor.dtype, tensor.scale, tensor.zero_point, tensor.name)
        name = value.name or tensor.name
        return self.dequantized(self.node("QuantizeLinear", [value, *grid], f"{name}/quantised"), grid, name)

    def node(self, op: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any) -> ir.Value:
        """Adds a node with one output and returns that."""
        return self.node_of_many(op, inputs, [name], **attributes)[0]

    def node_of_many(
        self, op: str, inputs: Sequence[ir.Value | None], names: Sequence[str], **attributes: Any
    ) -> Sequence[ir.Value]:
        """Adds a node with one output per name and returns them."""
        outputs = [ir.Value(name=self._unique(name)) for name in names]
        made = ir.node(op, inputs, attributes, outputs=outputs, name=f"{op}_{len(self.nodes)}")
        self.nodes.append(made)
        return outputs

    def has_first(self, number: int) -> bool:
        """Returns whether a tensor is there channels-first without another node."""
        return number in self._first

    def has_last(self, number: int) -> bool:
        """Returns whether a tensor is there in the file's layout without another node."""
        return number in self._last

    def last(self, number: int) -> ir.Value:
        """Returns a tensor in the file's own layout."""
        if number not in self._last:
            if number in self._first:
                name = self.tensor(number).name
                self._last[number] = self.node("Transpose", [self._first[number]], name, perm=TO_LAST)
                self.declare(number)
                self._last[number] = self.rounded(number, self._last[number])
            else:
                self.need_array(number)
                self._last[number] = self.weights(number)
        return self._last[number]

    def first(self, number: int) -> ir.Value:
        """Returns a tensor of rank 4 channels-first."""
        if number not in self._first:
            if self.array(number) is not None:
                self._first[number] = self.weights(number, TO_FIRST)
            else:
                name = f"{self.tensor(number).name}_nchw"
                turned = self.node("Transpose", [self.last(number)], name, perm=TO_FIRST)
                self._first[number] = self.rounded(number, turned)
        return self._first[number]

    def store(self, number: int, value: ir.Value, *, first: bool, activation: int = 0) -> None:
        """Records the value of a tensor in one layout, after its fused activation and its rounding to integers.

        Raises:
            SourceError: The activation is unknown.
        """
        if activation:
            value = self._activated(number, value, activation)
        if not first:
            self.declare(number, value)
        (self._first if first else self._last)[number] = self.rounded(number, value)

    def alias(self, number: int, value: ir.Value, *, first: bool) -> None:
        """Records that a tensor holds a value that is there already."""
        (self._first if first else self._last)[number] = value

    def declare(self, number: int, value: ir.Value | None = None) -> None:
        """Gives the channels-last value of a tensor the type and shape of the file; scaled integers are float."""
        tensor, value = self.tensor(number), value or self._last[number]
        value.dtype = ir.DataType.from_numpy(np.dtype("float32" if tensor.scaled else tensor.dtype))
        value.shape = ir.Shape(self.dims(number))

    def dims(self, number: int) -> list[int | str]:
        """Returns the shape of a tensor; a string for each dynamic axis, `batch` for the first."""
        tensor = self.tensor(number)
        names = ("batch" if axis == 0 else f"{tensor.name}_{axis}" for axis in range(len(tensor.shape)))
        return [name if free else size for name, size, free in zip(names, tensor.shape, tensor.dynamic, strict=True)]

    def add_input(self, number: int) -> ir.Value:
        """Declares an input of the graph and returns it."""
        tensor, value = self.tensor(number), ir.Value(name=self._unique(self.tensor(number).name))
        self.declare(number, value)
        if self.integer_io and tensor.scaled:
            value.dtype = ir.DataType.from_numpy(np.dtype(tensor.dtype))
            grid = self._grid(tensor.dtype, tensor.scale, tensor.zero_point, tensor.name)
            self._last[number] = self.dequantized(value, grid, tensor.name)
        else:
            self._last[number] = self.rounded(number, value)
        return value

    def add_output(self, number: int, taken: Sequence[ir.Value]) -> ir.Value:
        """Gives an output of the graph the file's name and returns it.

        Args:
            number: Of the tensor.
            taken: Inputs of the graph and outputs so far, which keep their names.
        """
        value, tensor = self.last(number), self.tensor(number)
        if self.integer_io and tensor.scaled and (found := _integers(value)) is not None:
            value = found
        if value.producer() is None or any(value is each for each in taken):
            value = self.node("Identity", [value], tensor.name)
        if not any(each.name == tensor.name for each in taken):
            self.rename(value, tensor.name)
        return value

    def rename(self, value: ir.Value, name: str) -> None:
        """Gives `value` a name; what bears it now is the float value before it was rounded, and called so."""
        if value.name == name:
            return
        for other in (output for node in self.nodes for output in node.outputs):
            if other.name == name:
                other.name = self._unique(f"{name}/float")
        self._used.discard(value.name or "")
        value.name = name
        self._used.add(name)

    def _activated(self, number: int, value: ir.Value, activation: int) -> ir.Value:
        kind = _ACTIVATIONS.get(activation)
        name = self.tensor(number).name
        if kind is None:
            raise SourceError(
                f'tensor "{name}": fused activation {activation} is not supported', hint="convert without it"
            )
        plain = value.name or name
        value.name = self._unique(f"{plain}_linear")
        self._used.discard(plain)
        return self.activation(kind, value, plain)

    def activation(self, kind: str, value: ir.Value, name: str) -> ir.Value:
        """Adds a simple activation by its TensorFlow Lite name and returns its output."""
        limits: Mapping[str, tuple[float, float]] = {"RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1), "RELU_0_TO_1": (0, 1)}
        if kind not in limits:
            return self.node({"RELU": "Relu", "TANH": "Tanh"}[kind], [value], name)
        low, high = (self.constant(np.asarray(limit, np.float32), f"{name}_limit") for limit in limits[kind])
        return self.node("Clip", [value, low, high], name)

    def _unique(self, name: str) -> str:
        wanted, count = name, 1
        while wanted in self._used:
            wanted, count = f"{name}_{count}", count + 1
        self._used.add(wanted)
        return wanted


_LONGEST_NAME = 64


def _short(name: str) -> str:
    """Returns the first of the names a converter joined with `;`, cut: joined ones outweigh a small model's weights."""
    return name.split(";", maxsplit=1)[0][-_LONGEST_NAME:] or "tensor"


def _integers(value: ir.Value) -> ir.Value | None:
    """Returns the integers behind a dequantised value."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.op_type == "DequantizeLinear" else None
