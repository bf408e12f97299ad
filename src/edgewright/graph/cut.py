"""Partial execution: only what changes when a few tensors are quantised, fed with what does not change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.core.target import Plan
from edgewright.graph import qdq
from edgewright.graph.cost import node_macs, tensor_bytes
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """The part of a model behind a cut.

    Attributes:
        model: That part, with the quantisers of a plan at its head.
        inputs: Its inputs by name -> tensor of the whole model that each one is fed with.
        outputs: Outputs of the whole model that it computes; the others do not change.
        macs: Multiply-accumulates that run again.
    """

    model: ir.Model
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    macs: int


def cut(model: ir.Model, plan: Plan) -> Cut:
    """Returns what has to run again when the tensors of `plan` are quantised.

    A model with branches or loops is not cut: all of it runs again.

    Args:
        model: With types inferred; it stays as it is.
        plan: Any part of a plan for `model`.

    Raises:
        ConfigError: The plan names a tensor that the model does not have.
    """
    variant = model.clone()
    graph = variant.graph
    whole = any(node.graph is not graph for node in graph.all_nodes())
    names = {id(value): value.name or "" for value in _values(graph)}
    qdq.apply(graph, plan)
    changed = list(graph) if whole else _behind_quantisers(graph)
    made = {id(value) for node in changed for value in node.outputs}
    inputs = list(graph.inputs) if whole else _frontier(graph, changed, made)
    outputs = [value for value in graph.outputs if id(value) in made]
    part = ir.Model(ir.convenience.extract(graph, inputs, outputs), ir_version=model.ir_version)
    part.metadata_props.update(model.metadata_props)
    part.opset_imports.update(model.opset_imports)
    fed = {value.name or "": names[id(value)] for value in inputs}
    return Cut(part, fed, tuple(value.name or "" for value in outputs), sum(map(node_macs, changed)))


def with_outputs(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """Returns a copy of `model` that also puts out the tensors `names`, as far as nodes compute them."""
    copy = model.clone()
    wanted = set(names) - {value.name for value in (*copy.graph.outputs, *copy.graph.inputs)}
    copy.graph.outputs.extend(v for node in copy.graph for v in node.outputs if v.name in wanted)
    return copy


def cut_bytes(model: ir.Model, tensors: Iterable[str]) -> int:
    """Returns the bytes of these tensors for one run; unknown shapes count as nothing."""
    wanted = set(tensors)
    return sum(tensor_bytes(value) for value in _values(model.graph) if value.name in wanted)


def _behind_quantisers(graph: ir.Graph) -> list[ir.Node]:
    """Returns the quantisers and everything that reads what they change, in graph order."""
    dirty: set[int] = set()
    found = []
    for node in graph:
        if node.op_type in (QUANTIZE, DEQUANTIZE) or any(id(value) in dirty for value in node.inputs):
            dirty.update(id(value) for value in node.outputs)
            found.append(node)
    return found


def _frontier(graph: ir.Graph, changed: list[ir.Node], made: set[int]) -> list[ir.Value]:
    read = {id(v): v for node in changed for v in node.inputs if v is not None and id(v) not in made}
    return [value for value in read.values() if value.const_value is None]


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs)]
