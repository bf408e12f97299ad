"""A quantised graph as the rules see it: which operator reads what from which quantiser."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.core.target import Scheme
from edgewright.graph.placement import WEIGHTED, data_inputs, kept_float, moves_integers
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, Quantiser, all_quantisers, behind, is_constant

WEIGHTS, BIAS, DATA = "weights", "bias", "activation"


@dataclass(frozen=True, slots=True)
class Scene:
    """What every rule is given.

    Attributes:
        graph: With quantisers, shapes inferred, nodes named.
        scheme: To hold it against.
        quantisers: Every dequantised value.
        kept: Names of the nodes that must or may stay float.
        forced: Of these, the ones that the scheme itself keeps in float.
    """

    graph: ir.Graph
    scheme: Scheme
    quantisers: tuple[Quantiser, ...]
    kept: Collection[str]
    forced: Collection[str]

    def role(self, found: Quantiser) -> str:
        """Returns what the dequantised value is used as."""
        places = [(use.node.op_type, use.idx) for use in found.node.outputs[0].uses()]
        if found.constant and any(op in WEIGHTED and index == 1 for op, index in places):
            return WEIGHTS
        return BIAS if any(op in WEIGHTED and index == 2 for op, index in places) else DATA

    def reads(self, value: ir.Value | None) -> Quantiser | None:
        """Returns the quantiser that `value` comes from, also where integers pass through operators since."""
        found = behind(value)
        made = value.producer() if value is not None else None
        if found is not None or made is None or self.scheme.requantize_shared or not self._passes(made):
            return found
        inputs = [self.reads(each) for each in operands(made)]
        return inputs[0] if inputs and all(inputs) else None

    def _passes(self, node: ir.Node) -> bool:
        return node.name not in self.kept and moves_integers(node, self.scheme)

    def operators(self) -> Iterator[ir.Node]:
        """Yields every node but the quantisers."""
        return (node for node in self.graph if node.op_type not in (QUANTIZE, DEQUANTIZE))

    def quantised(self) -> Iterator[tuple[ir.Node, Quantiser, Quantiser]]:
        """Yields operators with weights whose data and weights are both quantised."""
        for node in self.graph:
            if node.op_type in WEIGHTED and len(node.inputs) > 1:
                data, weights = self.reads(node.inputs[0]), self.reads(node.inputs[1])
                if data is not None and weights is not None:
                    yield node, data, weights


def scene(graph: ir.Graph, scheme: Scheme, kept: Collection[str]) -> Scene:
    """Collects what the rules look at."""
    forced = kept_float(graph, scheme.keep_float)
    return Scene(graph, scheme, tuple(all_quantisers(graph)), {*kept, *forced}, forced)


def after(value: ir.Value) -> Quantiser | None:
    """Returns the quantiser that `value` goes into, if it goes into one and nothing else."""
    users = [use.node for use in value.uses()]
    if len(users) != 1 or users[0].op_type != QUANTIZE or value.is_graph_output():
        return None
    readers = [use.node for use in users[0].outputs[0].uses()]
    return behind(readers[0].outputs[0]) if readers and readers[0].op_type == DEQUANTIZE else None


def operands(node: ir.Node) -> tuple[ir.Value, ...]:
    """Returns the inputs of `node` that carry data and are not known before the model runs."""
    return tuple(v for v in data_inputs(node) if not is_constant(v))
