"""What is added to a graph so that little leaves it: extremes and sums of every activation, and every k-th value.

Extremes are reduced inside the graph. Of a large activation every k-th value leaves it, k a prime that divides none of
its axes: a stride that divides the width of an image (7 divides 224, 112, 56, 28 and 14) would see some of its columns
always and the others never.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.graph.opset import QDQ_OPSET, opset, raise_opset
from edgewright.graph.shapes import bind_axes, static_shape

LOW, HIGH, SUM, VALUES = "low", "high", "sum", "values"
PREFIX = "edgewright/"
ENOUGH = 8192
"""Values of one activation and one sample that are worth counting; twice as many are not thinned."""
PRIMES = tuple(p for p in range(2, 4096) if all(p % q for q in range(2, int(p**0.5) + 1)))
CHANNELS_SECOND = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "PRelu")
CHANNELS_LAST = ("MatMul", "Gemm", "LayerNormalization")


@dataclass(frozen=True, slots=True)
class Probe:
    """One activation.

    Attributes:
        name: Its name.
        rows: Its first axis is the batch, so that figures of single samples leave the graph.
        thin: Every so many of its values leave the graph.
        values: Name of the output that holds them; empty without histograms.
        axis: Its channel axis where channels are asked for; None leaves them out.
        channels: Names of the outputs with smallest and largest values and means per channel.
    """

    name: str
    rows: bool = False
    thin: int = 1
    values: str = ""
    axis: int | None = None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probes:
    """A model to run and how to read what it gives.

    Attributes:
        model: Its outputs are `edgewright/low`, `edgewright/high` and `edgewright/sum` (the figures of all activations
            one after the other, those with rows first) and what the probes name.
        tensors: In the order of the figures.
        inputs: Names of the inputs that need data.
        batch: Samples per batch that the graph is fixed to; None where any number goes.
    """

    model: ir.Model
    tensors: tuple[Probe, ...]
    inputs: tuple[str, ...]
    batch: int | None


def activations(graph: ir.Graph) -> tuple[ir.Value, ...]:
    """Returns the float32 values that depend on the inputs, in graph order."""
    found = [v for v in graph.inputs if v.name not in graph.initializers]
    known = {id(v) for v in found}
    for node in graph:
        if any(id(v) in known for v in node.inputs):
            known.update(id(v) for v in node.outputs)
            found.extend(v for v in node.outputs if v.uses() or v.is_graph_output())
    return tuple(v for v in found if v.dtype == ir.DataType.FLOAT)


def with_activations(model: ir.Model) -> ir.Model:
    """Returns a copy of `model` with every activation that some node computes as an output."""
    copy = model.clone()
    present = {v.name for v in (*copy.graph.outputs, *copy.graph.inputs)}
    copy.graph.outputs.extend(v for v in activations(copy.graph) if v.name not in present)
    return copy


def batch_of(graph: ir.Graph) -> int | None:
    """Returns the number of samples per batch that the inputs are fixed to; None where it is free."""
    for value in graph.inputs:
        if value.name not in graph.initializers and value.shape is not None and len(value.shape):
            first = value.shape[0]
            return first if isinstance(first, int) else None
    return None


def probe(
    model: ir.Model,
    *,
    histograms: bool = True,
    channels: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Probes:
    """Adds probes to a copy of `model`, each right behind what it looks at, so that activations are freed early.

    Args:
        model: With inferred shapes.
        histograms: Let values out, too.
        channels: Let figures per channel out, too.
        shapes: Input name -> shape of a typical sample's tensor with its batch axis: sizes of dynamic axes, from which
            follows how far large activations are thinned.
    """
    copy = raise_opset(model, QDQ_OPSET).clone()
    graph = copy.graph
    inputs = tuple(v.name or "" for v in graph.inputs if v.name not in graph.initializers)
    batch = batch_of(graph)
    symbol = _batch_symbol(graph)
    sizes = _sizes(copy, shapes or {}) if histograms else {}
    found = activations(graph)
    graph.outputs.clear()
    rig = _Rig(copy, graph)
    probes = [
        rig.add(value, i, _has_rows(value, batch, symbol), sizes if histograms else None, channels)
        for i, value in enumerate(found)
    ]
    probes = sorted(probes, key=lambda each: not each.rows)
    rig.collect(probes)
    return Probes(copy, tuple(probes), inputs, batch)


def stride(shape: Sequence[int]) -> int:
    """Returns how far an activation of `shape` (without batch axis) is thinned: 1, or a prime that divides no axis."""
    size = int(np.prod(shape, dtype=np.int64))
    fitting = [p for p in PRIMES if p <= size // ENOUGH and all(d % p for d in shape)]
    return fitting[-1] if fitting else 1


class _Rig:
    """Adds nodes to a graph.

    Attributes:
        figures: Kind of figure -> activation -> the value that holds it, of rank 1.
    """

    def __init__(self, model: ir.Model, graph: ir.Graph) -> None:
        self.graph = graph
        self.axes_are_inputs = opset(model) >= 18
        self.head = next(iter(graph), None)
        self.figures: dict[str, dict[str, ir.Value]] = {LOW: {}, HIGH: {}, SUM: {}}

    def add(
        self, value: ir.Value, index: int, rows: bool, sizes: Mapping[str, tuple[int, ...]] | None, channels: bool
    ) -> Probe:
        """Adds what `value` needs; `sizes` None lets no values out."""
        name = value.name or ""
        found = Probe(name, rows)
        nodes: list[ir.Node] = []
        flat = self._node(nodes, "Reshape", [value, self._constant([0, -1] if rows else [1, -1])], f"flat/{index}")
        for op, kind in (("ReduceMin", LOW), ("ReduceMax", HIGH), ("ReduceSum", SUM)):
            self.figures[kind][name] = self._reduced(nodes, op, flat, [1], f"{kind}/{index}")
        if sizes is not None:
            found = self._values(nodes, flat, replace(found, thin=stride(sizes.get(name, ())[rows:])), index)
        axis = _channel_axis(value) if channels else None
        if axis is not None:
            found = self._channels(nodes, value, axis, found, index)
        producer = value.producer()
        if producer is not None:
            self.graph.insert_after(producer, nodes)
        elif self.head is not None:
            self.graph.insert_before(self.head, nodes)
        else:
            self.graph.extend(nodes)
        return found

    def collect(self, probes: Sequence[Probe]) -> None:
        """Joins the figures of all activations, three outputs in all."""
        for kind, found in self.figures.items():
            nodes: list[ir.Node] = []
            joined = self._node(nodes, "Concat", [found[p.name] for p in probes], kind, axis=0)
            self.graph.extend(nodes)
            self._output(joined)

    def _values(self, nodes: list[ir.Node], flat: ir.Value, probe: Probe, index: int) -> Probe:
        thinned = flat
        if probe.thin > 1:
            bounds = [self._constant([v]) for v in (0, 2**31, 1, probe.thin)]
            thinned = self._node(nodes, "Slice", [flat, *bounds], f"{VALUES}/{index}")
        self._output(thinned)
        return replace(probe, values=thinned.name or "")

    def _channels(self, nodes: list[ir.Node], value: ir.Value, axis: int, probe: Probe, index: int) -> Probe:
        assert value.shape is not None
        kept = {axis, 0} if probe.rows else {axis}
        others = [i for i in range(len(value.shape)) if i not in kept]
        made = []
        for op in ("ReduceMin", "ReduceMax", "ReduceMean"):
            label = f"channels/{op}/{index}"
            made.append(
                self._reduced(nodes, op, value, others, label)
                if others
                else self._node(nodes, "Identity", [value], label)
            )
            self._output(made[-1])
        return replace(probe, axis=axis, channels=tuple(v.name or "" for v in made))

    def _reduced(self, nodes: list[ir.Node], op: str, value: ir.Value, axes: list[int], label: str) -> ir.Value:
        if op == "ReduceSum" or self.axes_are_inputs:
            return self._node(nodes, op, [value, self._constant(axes)], label, keepdims=0)
        return self._node(nodes, op, [value], label, axes=axes, keepdims=0)

    def _same(self, nodes: list[ir.Node], value: ir.Value, label: str) -> ir.Value:
        return self._node(nodes, "Identity", [value], label)

    def _node(
        self, nodes: list[ir.Node], op: str, inputs: Sequence[ir.Value], label: str, **attributes: int | list[int]
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes)
        node.outputs[0].name = PREFIX + label
        node.outputs[0].dtype = ir.DataType.FLOAT
        nodes.append(node)
        return node.outputs[0]

    def _constant(self, numbers: list[int]) -> ir.Value:
        name = PREFIX + "constant/" + "_".join(map(str, numbers))
        if name not in self.graph.initializers:
            tensor = ir.tensor(np.asarray(numbers, np.int64), name=name)
            shape = ir.Shape([len(numbers)])
            made = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=shape, const_value=tensor)
            self.graph.register_initializer(made)
        return self.graph.initializers[name]

    def _output(self, value: ir.Value) -> None:
        self.graph.outputs.append(value)


def _batch_symbol(graph: ir.Graph) -> str:
    for value in graph.inputs:
        if value.name not in graph.initializers and value.shape is not None and len(value.shape):
            first = value.shape[0]
            return "" if isinstance(first, int) else first.value or ""
    return ""


def _has_rows(value: ir.Value, batch: int | None, symbol: str) -> bool:
    """Whether the first axis of `value` is the batch; a single sample has nothing to tell apart."""
    if value.shape is None or not len(value.shape):
        return False
    first = value.shape[0]
    return first == batch if isinstance(first, int) else bool(symbol) and first.value == symbol


def _sizes(model: ir.Model, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every activation, dynamic axes as in `shapes`, as far as it can be told."""
    named = {
        axis.value: int(size)
        for value in model.graph.inputs
        for axis, size in zip(value.shape or (), shapes.get(value.name or "", ()), strict=False)
        if not isinstance(axis, int) and axis.value
    }
    if named:
        try:
            model = bind_axes(model, named)
        except SourceError:
            return {}
    return {v.name or "": shape for v in activations(model.graph) if (shape := static_shape(v)) is not None}


def _channel_axis(value: ir.Value) -> int | None:
    """Returns the axis of the channels: 1 beside convolutions, the last beside matrix products, else by rank."""
    if value.shape is None or len(value.shape) < 2:
        return None
    producer = value.producer()
    beside = {node.op_type for node, _ in value.uses()} | ({producer.op_type} if producer else set())
    if beside.intersection(CHANNELS_SECOND):
        return 1
    if beside.intersection(CHANNELS_LAST):
        return len(value.shape) - 1
    return 1 if len(value.shape) >= 4 else len(value.shape) - 1
