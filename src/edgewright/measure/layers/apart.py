"""An ONNX graph taken apart at given tensors: every layer reads given values and is run by the same runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.graph.quantisers import QUANTIZE
from edgewright.measure.layers.sides import Tap

GIVEN = "/given"


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The graph in parts.

    Attributes:
        model: All parts side by side; its outputs are the sources of the taps.
        entries: `Tap.source` -> the input that its consumers read.
    """

    model: ir.Model
    entries: Mapping[str, str]


def taken_apart(model: ir.Model, given: Sequence[Tap]) -> Parts:
    """Cuts a copy of `model` behind every tensor of `given`.

    What follows a quantised tensor reads a quantiser of its own with the same parameters, so each part keeps the
    pattern that the runtime turns into an integer kernel.
    """
    copy = model.clone()
    graph = copy.graph
    values = {v.name: v for node in graph for v in node.outputs}
    graph.outputs.clear()
    ends = {values[tap.source].producer() for tap in given if tap.integers}
    entries: dict[str, str] = {}
    for tap in given:
        source = values[tap.source]
        entry = _cut(graph, source, tap, ends)
        if entry is not None:
            entries[tap.source] = entry.name or ""
        graph.outputs.append(source)
    _drop_unused(graph)
    read = {v.name for v in graph.inputs}
    return Parts(copy, {source: entry for source, entry in entries.items() if entry in read})


def _cut(graph: ir.Graph, source: ir.Value, tap: Tap, ends: set[ir.Node | None]) -> ir.Value | None:
    """Gives everything that reads `source` a new input instead; returns it, None where nothing reads it."""
    quantiser = source.producer()
    stored = tap.integers is not None and quantiser is not None and quantiser.op_type == QUANTIZE
    real = quantiser.inputs[0] if stored and quantiser is not None else source
    assert real is not None
    readers = [use for use in real.uses() if use.node not in ends]
    if stored:
        readers += list(source.uses())
    if not readers:
        return None
    entry = ir.Value(name=f"{tap.source}{GIVEN}", type=ir.TensorType(real.dtype or ir.DataType.FLOAT), shape=real.shape)
    graph.inputs.append(entry)
    again = _quantiser_again(graph, quantiser, entry) if stored and source.uses() else None
    for use in readers:
        value = use.node.inputs[use.idx]
        use.node.replace_input_with(use.idx, again if value is source and again is not None else entry)
    return entry


def _quantiser_again(graph: ir.Graph, quantiser: ir.Node | None, entry: ir.Value) -> ir.Value:
    assert quantiser is not None
    inputs = [entry, *quantiser.inputs[1:]]
    attributes = list(quantiser.attributes.values())
    node = ir.Node("", QUANTIZE, inputs, attributes, name=f"{quantiser.name}{GIVEN}")
    made, old = node.outputs[0], quantiser.outputs[0]
    made.name, made.type, made.shape = f"{old.name}{GIVEN}/stored", old.type, old.shape
    graph.insert_after(quantiser, node)
    return made


def _drop_unused(graph: ir.Graph) -> None:
    """Removes what no output needs; an unread dequantiser would otherwise stay a kernel."""
    wanted = {id(v) for v in graph.outputs}
    for node in list(reversed(list(graph))):
        if any(id(v) in wanted for v in node.outputs):
            wanted.update(id(v) for v in node.inputs if v is not None)
        elif not any(v.uses() for v in node.outputs) and not any(v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)
    for value in list(graph.inputs):
        if not value.uses() and value.name not in graph.initializers:
            graph.inputs.remove(value)
