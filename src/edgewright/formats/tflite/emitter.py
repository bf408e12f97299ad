"""ONNX being written from a TensorFlow Lite graph, with every activation known in one or two layouts.

TensorFlow Lite is channels-last, ONNX convolutions are channels-first. A rule asks for the layout it needs; a Transpose
is written only when that layout does not exist yet, so chains of channels-first operators need none inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import SourceError
from edgewright.formats.tflite.reader import TfliteGraph, TfliteTensor

TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)
_ACTIVATIONS = {1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH"}


class Emitter:
    """Collects nodes and initialisers; tensors are named by their number in the file."""

    def __init__(self, graph: TfliteGraph) -> None:
        self.graph = graph
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self._last: dict[int, ir.Value] = {}
        self._first: dict[int, ir.Value] = {}
        self._folded: dict[int, NDArray[Any]] = {}
        self._used: set[str] = set()

    def tensor(self, number: int) -> TfliteTensor:
        """Returns the tensor of the file."""
        return self.graph.tensors[number]

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

    def last(self, number: int) -> ir.Value:
        """Returns a tensor in the file's own layout."""
        if number not in self._last:
            if number in self._first:
                name = self.tensor(number).name
                self._last[number] = self.node("Transpose", [self._first[number]], name, perm=TO_LAST)
                self.declare(number)
            else:
                self._last[number] = self.constant(self.need_array(number), self.tensor(number).name)
        return self._last[number]

    def first(self, number: int) -> ir.Value:
        """Returns a tensor of rank 4 channels-first."""
        if number not in self._first:
            name = f"{self.tensor(number).name}_nchw"
            value = self.array(number)
            if value is not None:
                self._first[number] = self.constant(value.transpose(TO_FIRST), name)
            else:
                self._first[number] = self.node("Transpose", [self.last(number)], name, perm=TO_FIRST)
        return self._first[number]

    def store(self, number: int, value: ir.Value, *, first: bool, activation: int = 0) -> None:
        """Records the value of a tensor in one layout, after its fused activation.

        Raises:
            SourceError: The activation is unknown.
        """
        if activation:
            value = self._activated(number, value, activation)
        (self._first if first else self._last)[number] = value
        if not first:
            self.declare(number)

    def declare(self, number: int) -> None:
        """Gives the channels-last value of a tensor the type and shape of the file."""
        tensor, value = self.tensor(number), self._last[number]
        value.dtype = ir.DataType.from_numpy(np.dtype("float32" if tensor.dtype == "float16" else tensor.dtype))
        value.shape = ir.Shape(self.dims(number))

    def dims(self, number: int) -> list[int | str]:
        """Returns the shape of a tensor; a string for each dynamic axis, `batch` for the first."""
        tensor = self.tensor(number)
        names = ("batch" if axis == 0 else f"{tensor.name}_{axis}" for axis in range(len(tensor.shape)))
        return [name if free else size for name, size, free in zip(names, tensor.shape, tensor.dynamic, strict=True)]

    def add_input(self, number: int) -> ir.Value:
        """Declares an input of the graph and returns it."""
        self._last[number] = ir.Value(name=self._unique(self.tensor(number).name))
        self.declare(number)
        return self._last[number]

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
        base = _short(name)
        wanted, count = base, 1
        while wanted in self._used:
            wanted, count = f"{base}_{count}", count + 1
        self._used.add(wanted)
        return wanted


_LONGEST_NAME = 64


def _short(name: str) -> str:
    """Returns the first of the names a converter joined with `;`, cut: joined ones outweigh a small model's weights."""
    return name.split(";", maxsplit=1)[0][-_LONGEST_NAME:] or "tensor"
