"""Two models joined into one graph: outputs of the first to inputs of the second, or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.graph.load import tensor_specs
from edgewright.graph.opset import opset, raise_opset, settle_ir_version
from edgewright.graph.shapes import infer_shapes
from edgewright.graph.tidy import tidy


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """The joined model.

    Attributes:
        model: In memory.
        names: Name of an input or output in the second model -> its name in the joined one.
    """

    model: ir.Model
    names: Mapping[str, str]


def merge(first: ir.Model, second: ir.Model, connect: Mapping[str, str], prefix: str = "b_") -> Merged:
    """Joins two models.

    Args:
        first: Runs first; changed in place, use the returned model.
        second: Changed in place.
        connect: Output of `first` -> input of `second`; empty puts them side by side.
        prefix: Put before names of `second` that `first` uses too.

    Returns:
        Inputs: those of `first`, then the unconnected ones of `second`. Outputs: the unconnected ones of `first`, then
        those of `second`. The opset is the newer of the two.

    Raises:
        SourceError: A name in `connect` does not exist, or the two tensors do not fit each other.
        StepFailed: The older model's opset could not be raised.
    """
    level = max(opset(first), opset(second))
    a, b = (tidy(raise_opset(model, level))[0] for model in (first, second))
    _check_connections(a, b, connect)
    wires = [(_named(a.graph.outputs, source), _named(b.graph.inputs, sink)) for source, sink in connect.items()]
    ends = [(v.name or "", v) for v in [*b.graph.inputs, *b.graph.outputs]]
    _rename_clashes(a.graph, b.graph, prefix)
    wired = {sink: source for source, sink in wires}
    names = {old: wired.get(value, value).name or "" for old, value in ends}
    joined_inputs = {sink for _, sink in wires}
    inputs = [*a.graph.inputs, *(v for v in b.graph.inputs if v not in joined_inputs)]
    outputs = [*(v for v in a.graph.outputs if v.name not in connect), *b.graph.outputs]
    outputs = [wired.get(value, value) for value in outputs]
    return Merged(_assembled(a, b, inputs, outputs, wired), names)


def _assembled(
    a: ir.Model, b: ir.Model, inputs: list[ir.Value], outputs: list[ir.Value], wired: Mapping[ir.Value, ir.Value]
) -> ir.Model:
    initializers = [*a.graph.initializers.values(), *b.graph.initializers.values()]
    nodes = [*a.graph, *b.graph]
    for graph in (a.graph, b.graph):
        graph.remove(list(graph))
        graph.initializers.clear()
        graph.inputs.clear()
        graph.outputs.clear()
    for sink, source in wired.items():
        sink.replace_all_uses_with(source)
    imports = {**a.opset_imports, **b.opset_imports}
    imports = {d: max(a.opset_imports.get(d, 0), b.opset_imports.get(d, 0)) for d in imports}
    graph = ir.Graph(inputs, outputs, nodes=nodes, initializers=initializers, opset_imports=imports, name="merged")
    merged = ir.Model(graph, ir_version=max(a.ir_version, b.ir_version), producer_name="edgewright")
    settle_ir_version(merged)
    return infer_shapes(merged, strict=True)


def _check_connections(a: ir.Model, b: ir.Model, connect: Mapping[str, str]) -> None:
    gives = {spec.name: spec for spec in tensor_specs(a)[1]}
    takes = {spec.name: spec for spec in tensor_specs(b)[0]}
    for source, sink in connect.items():
        if source not in gives:
            raise SourceError(f'the first model has no output "{source}"', hint=f"its outputs: {', '.join(gives)}")
        if sink not in takes:
            raise SourceError(f'the second model has no input "{sink}"', hint=f"its inputs: {', '.join(takes)}")
        one, other = gives[source], takes[sink]
        fixed = [
            (m, n) for m, n in zip(one.shape, other.shape, strict=False) if isinstance(m, int) and isinstance(n, int)
        ]
        if one.dtype != other.dtype or len(one.shape) != len(other.shape) or any(m != n for m, n in fixed):
            raise SourceError(
                f"{one} does not fit {other}", hint="add a Cast, Reshape or Transpose to one of the models"
            )
    if len(set(connect.values())) != len(connect):
        raise SourceError("an input of the second model is connected twice", hint="give each input one output")


def _named(values: Sequence[ir.Value], name: str) -> ir.Value:
    return next(v for v in values if v.name == name)


def _names(graph: ir.Graph) -> set[str]:
    values = [*graph.inputs, *graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)]
    return {v.name for v in values if v.name} | {n.name for n in graph.all_nodes() if n.name}


def _rename_clashes(a: ir.Graph, b: ir.Graph, prefix: str) -> None:
    taken = _names(a)
    values = {*b.inputs, *b.initializers.values(), *(v for n in b.all_nodes() for v in n.outputs)}
    for value in values:
        if value.name in taken:
            value.name = _free(value.name, taken, prefix)
    for node in b.all_nodes():
        if node.name in taken:
            node.name = _free(node.name, taken, prefix)


def _free(name: str, taken: set[str], prefix: str) -> str:
    while name in taken:
        name = f"{prefix}{name}"
    return name
