"""A graph becoming tensors and operators of a TensorFlow Lite file.

Rules speak of ONNX nodes and ask for tensors; whether a tensor holds floats or integers is decided here, once, from the
quantisers around the node, so that no rule has a branch for quantisation.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.graph.quantisers import DEQUANTIZE, behind, numbers
from edgewright.targets._tflite.file import Quantisation, Tensor, TfliteFile
from edgewright.targets._tflite.fusion import NONE, Fused
from edgewright.targets._tflite.options import Options
from edgewright.targets._tflite.peephole import Operator, simplified
from edgewright.targets._tflite.stored import dtype_of, parameters, real, shape_of
from edgewright.targets._tflite.versions import version_of
from edgewright.targets._tflite.weights import Change, emit_bias, emit_weights, halved

ABSENT = -1
_NARROWEST = 8
"""Bits of the integers that operators take and give."""


class Emission:
    """Collects the file; `fused` and `integer` say which nodes take an activation in and which run in integers."""

    def __init__(self, options: Options, fused: Mapping[ir.Node, Fused], integer: frozenset[ir.Node]) -> None:
        self.file = TfliteFile()
        self.options = options
        self.operators: list[Operator] = []
        self.origins: dict[int, ir.Value] = {}
        """Tensor -> the value of the graph that it holds."""
        self._fused, self._integer = fused, integer
        self._numbers: dict[ir.Value, int] = {}
        self._dequantised: dict[ir.Value, int] = {}
        self._cached: dict[tuple[ir.Value, str], int] = {}
        self._sources: tuple[str, ...] = ()
        self._unused: set[ir.Node] = set()
        self._constants: dict[Any, int] = {}

    # What rules ask.

    def is_integer(self, node: ir.Node) -> bool:
        """Says whether a node runs in integers."""
        return node in self._integer

    def input(self, node: ir.Node, index: int) -> int:
        """Returns the tensor of an input in the type the node runs in; `ABSENT` for one left out."""
        value = node.inputs[index] if index < len(node.inputs) else None
        return ABSENT if value is None else self.read(value, integer=self.is_integer(node))

    def output(self, node: ir.Node, index: int = 0) -> int:
        """Returns the tensor a node writes: behind its fused activation, and of integers where it runs in them."""
        value = self._fused[node].value if node in self._fused else node.outputs[index]
        if self.is_integer(node) and (users := [use.node for use in value.uses()]):
            return self._written(users, value)
        return self._declared(value)

    def activation(self, node: ir.Node) -> int:
        """Returns the code of the activation that a node must compute at its end."""
        self._unused.discard(node)
        return self._fused[node].code if node in self._fused else NONE

    def constant(self, node: ir.Node, index: int) -> NDArray[Any] | None:
        """Returns the real value of a constant input, dequantised; None for one that is computed or left out."""
        value = node.inputs[index] if index < len(node.inputs) else None
        return None if value is None else real(value)

    def shape(self, node: ir.Node, index: int = 0) -> tuple[int, ...]:
        """Returns the shape of an input of a node."""
        return shape_of(node.inputs[index])

    def out_shape(self, node: ir.Node, index: int = 0) -> tuple[int, ...]:
        """Returns the shape of an output of a node."""
        return shape_of(node.outputs[index])

    def weights(
        self,
        node: ir.Node,
        index: int,
        perm: Sequence[int] = (),
        *,
        hybrid: bool = False,
        change: Change | None = None,
    ) -> int:
        """Returns the tensor of weights with their axes in another order.

        Args:
            node: Its reader.
            index: Of the input.
            perm: Axes of the input in the order of the tensor; empty for the same order.
            hybrid: The operator takes int8 weights beside float activations, which it quantises as it runs; it does
                so where the model says it.
            change: Then done to the array, of floats or of stored integers whose zero point is 0: new zeros and axes,
                parts taken out. A quantised first axis stays the first, any other keeps its distance to the last.

        Raises:
            StepFailed: The weights are computed, and `change` cannot be done to them.
        """
        value = node.inputs[index]
        assert value is not None
        key = (value, f"{tuple(perm)} {self.is_integer(node)} {hybrid} {change.name if change else ''}")
        if key not in self._cached:
            self._cached[key] = emit_weights(self, node, value, tuple(perm), hybrid, change)
        return self._cached[key]

    def bias(self, node: ir.Node, index: int, data: int, weights: int, channels: int) -> int:
        """Returns the tensor of a bias: float, or integers of scale = input scale x weight scale; zeros if left out."""
        value = node.inputs[index] if index < len(node.inputs) else None
        return emit_bias(self, node, value, data, weights, channels)

    def const(self, array: NDArray[Any], name: str, quantisation: Quantisation | None = None) -> int:
        """Adds a constant and returns its tensor; one of equal name, type and content is used again."""
        digest = hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()
        key = (name, str(array.dtype), array.shape, digest, quantisation)
        if key not in self._constants:
            self._constants[key] = self.file.tensor(
                name, array.dtype.name, array.shape, data=array, quantisation=quantisation
            )
        return self._constants[key]

    def temp(self, like: int, shape: Sequence[int], name: str, dtype: str = "") -> int:
        """Adds a tensor for a value inside a rule, with the type and parameters of `like`, or of a plain type."""
        model = self.file.tensors[like]
        return self.file.tensor(name, dtype or model.dtype, shape, quantisation=None if dtype else model.quantisation)

    def op(
        self,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        *,
        version: int = 1,
        **fields: Any,
    ) -> None:
        """Adds an operator, to be written by `finish`; see `TfliteFile.operator`."""
        taken, given = ([None if n < 0 else self.file.tensors[n] for n in side] for side in (inputs, outputs))
        version = max(version, version_of(op, taken, given, fields))
        self.operators.append(Operator(op, list(inputs), list(outputs), options, version, fields, self._sources))

    def finish(
        self, inputs: Mapping[str, int], outputs: Mapping[str, int]
    ) -> tuple[bytes, tuple[tuple[str, ...], ...]]:
        """Returns the file, and per operator the nodes of the model that went into it.

        Args:
            inputs: Name for callers -> tensor, in order.
            outputs: Likewise.
        """
        kept = frozenset({*inputs.values(), *outputs.values()})
        self.operators = simplified(self.file, self.operators, kept)
        for each in self.operators:
            self.file.operator(each.op, each.inputs, each.outputs, each.options, version=each.version, **each.fields)
        return self.file.finish(inputs, outputs), tuple(each.sources for each in self.operators)

    def tensor(self, number: int) -> Tensor:
        """Returns what is known of a tensor."""
        return self.file.tensors[number]

    # How values become tensors.

    @contextlib.contextmanager
    def emitting(self, node: ir.Node) -> Iterator[None]:
        """Marks the operators added inside as made from `node` and its activation.

        Raises:
            StepFailed: The rule forgot the activation.
        """
        fused = self._fused.get(node)
        before, self._sources = self._sources, tuple(n.name or "" for n in (node, *([fused.node] if fused else [])))
        if fused is not None:
            self._unused.add(node)
        yield
        self._sources = before
        if node in self._unused:
            raise StepFailed(f"{node.op_type} {node.name}: its activation was lost", hint="report this model")

    def take(self, value: ir.Value, *, quantiser: ir.Node | None = None, dtype: str = "") -> int:
        """Declares an input of the file.

        Args:
            value: Input of the graph.
            quantiser: The file takes integers of this QuantizeLinear instead of floats.
            dtype: Type of the file's integers, if another than the quantiser's.
        """
        if quantiser is None:
            return self._declared(value)
        made = self._integers_of(quantiser, value)
        if dtype and dtype != self.file.tensors[made].dtype:
            return self._shifted_input(value, made, dtype)
        return made

    def give(self, value: ir.Value, dtype: str = "") -> int:
        """Returns the tensor of an output of the file.

        Args:
            value: Output of the graph.
            dtype: Type of the file's integers; empty for what the graph gives.
        """
        made = self.read(value, integer=bool(dtype))
        inner = self.file.tensors[made]
        if not dtype or inner.quantisation is None or inner.dtype == dtype:
            return made
        given = self.file.tensor(f"{value.name}_{dtype}", dtype, inner.shape, quantisation=_shifted(inner, dtype))
        self.op("QUANTIZE", [made], [given], "QuantizeOptions")
        return given

    def read(self, value: ir.Value, *, integer: bool) -> int:
        """Returns the tensor of a value, of integers or of what it stands for."""
        node = value.producer()
        if node is None or node.op_type != DEQUANTIZE:
            return self._plain(value)
        return self._stored(node) if integer else self._dequantise(node)

    def quantise(self, node: ir.Node) -> None:
        """Emits a QuantizeLinear, unless the node before it has written the integers already."""
        if node.outputs[0] in self._numbers:
            return
        source = node.inputs[0]
        assert source is not None
        found = behind(source)
        if found is not None:
            data = self._stored(found.node)
            if self.file.tensors[data].quantisation == parameters(node):
                self._numbers[node.outputs[0]] = data
                return
        else:
            data = self._plain(source)
        made = self._integers_of(node, source)
        with self.emitting(node):
            self.op("QUANTIZE", [data], [made], "QuantizeOptions")

    def _plain(self, value: ir.Value) -> int:
        if value in self._numbers:
            return self._numbers[value]
        array = numbers(value)
        if array is None:
            raise StepFailed(f'value "{value.name}" is used before it is computed', hint="report this model")
        if array.dtype == np.float32 and self.options.weights == "float16" and array.size > 1:
            self._numbers[value] = halved(self, value, array)
            return self._numbers[value]
        self._numbers[value] = self.const(array, value.name or "constant")
        return self._numbers[value]

    def _declared(self, value: ir.Value) -> int:
        if value not in self._numbers:
            if value.dtype is not None and value.dtype.is_integer() and value.dtype.bitwidth < _NARROWEST:
                raise StepFailed(
                    f'"{value.name}" is {value.dtype.name}: kernels of TensorFlow Lite store weights in that type only',
                    hint="cast the tensor to int8 in the model",
                )
            given = _given_parameters(value)
            made = self.file.tensor(value.name or "value", dtype_of(value), shape_of(value), quantisation=given)
            self._numbers[value] = made
            self.origins[made] = value
        return self._numbers[value]

    def _written(self, quantisers: Sequence[ir.Node], value: ir.Value) -> int:
        made = self._integers_of(quantisers[0], value)
        for other in quantisers[1:]:
            self._numbers[other.outputs[0]] = made
        return made

    def _integers_of(self, quantiser: ir.Node, value: ir.Value) -> int:
        stored = quantiser.outputs[0]
        if stored not in self._numbers:
            made = self.file.tensor(
                value.name or "value", dtype_of(stored), shape_of(value), quantisation=parameters(quantiser)
            )
            self._numbers[stored] = made
            self.origins[made] = value
        return self._numbers[stored]

    def _stored(self, node: ir.Node) -> int:
        value = node.inputs[0]
        assert value is not None
        if value not in self._numbers:
            array = numbers(value)
            if array is None:
                raise StepFailed(f'integers "{value.name}" are used before they are computed', hint="report this model")
            self._numbers[value] = self.const(array, value.name or "constant", parameters(node))
        return self._numbers[value]

    def _dequantise(self, node: ir.Node) -> int:
        value = node.outputs[0]
        if value not in self._dequantised:
            array = real(value)
            if array is not None:
                self._dequantised[value] = self.const(array, value.name or "constant")
            else:
                made = self.file.tensor(value.name or "value", "float32", shape_of(value))
                with self.emitting(node):
                    self.op("DEQUANTIZE", [self._stored(node)], [made], "DequantizeOptions", version=2)
                self._dequantised[value] = made
        return self._dequantised[value]

    def _shifted_input(self, value: ir.Value, made: int, dtype: str) -> int:
        inner = self.file.tensors[made]
        taken = self.file.tensor(f"{value.name}_{dtype}", dtype, inner.shape, quantisation=_shifted(inner, dtype))
        self.op("QUANTIZE", [taken], [made], "QuantizeOptions")
        return taken


def _given_parameters(value: ir.Value) -> Quantisation | None:
    """Returns what integers that the graph is given stand for: its DequantizeLinear says it."""
    readers = [use.node for use in value.uses() if use.node.op_type == DEQUANTIZE and use.idx == 0]
    return parameters(readers[0]) if readers and value.is_graph_input() else None


def _shifted(inner: Tensor, dtype: str) -> Quantisation:
    """Returns the parameters with which `dtype` says the same real numbers."""
    assert inner.quantisation is not None
    shift = int(np.iinfo(dtype).min) - int(np.iinfo(inner.dtype).min)
    return Quantisation(inner.quantisation.scale, (inner.quantisation.zero_point[0] + shift,))
