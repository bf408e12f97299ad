"""What the LiteRT compiler makes of quantisers: which operators it writes with integer kernels."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.core.target import Scheme
from edgewright.graph.edges import given, wanted
from edgewright.graph.placement import WEIGHTED, activated, data_inputs, has_weights, moves_integers, result, taken_in
from edgewright.graph.propagate import propagate
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, behind, is_constant
from edgewright.graph.schemes._flow import CONVERSION, FLOAT, FOLDED, FUSED, INTEGER, is_folded

_PICKS = ("Relu", "Clip", "Max", "Min")


class LitertFusion:
    """Goes through a graph once; `kinds` then holds what becomes of each operator.

    Args:
        graph: With quantisers, shapes and types inferred; left as it is.
        scheme: Of LiteRT: which operators have kernels for its types.
    """

    def __init__(self, graph: ir.Graph, scheme: Scheme) -> None:
        self._scheme = scheme
        self.kinds: dict[str, str] = {}
        self._copy = graph.clone()
        propagate(self._copy, self._moved, self._picked)
        for node in self._copy:
            if node.op_type not in (QUANTIZE, DEQUANTIZE):
                self.kinds[node.name or ""] = self._kind(node)

    def _moved(self, node: ir.Node) -> tuple[int, ...]:
        return self._places(node) if moves_integers(node, self._scheme) and node.op_type not in _PICKS else ()

    def _picked(self, node: ir.Node) -> tuple[int, ...]:
        return self._places(node) if node.op_type in _PICKS and not self._inside(node) else ()

    def _inside(self, node: ir.Node) -> bool:
        return taken_in(node, self._scheme) or activated(node, self._scheme) is not None

    def _places(self, node: ir.Node) -> tuple[int, ...]:
        carried = data_inputs(node)
        return tuple(i for i, v in enumerate(node.inputs) if any(v is each for each in carried) and _real(v))

    def _kind(self, node: ir.Node) -> str:
        if is_folded(node, self.kinds):
            return FOLDED
        if node.op_type == "Cast":
            return CONVERSION
        if self._inside(node):
            return FUSED
        return INTEGER if self._whole(node) else FLOAT

    def _whole(self, node: ir.Node) -> bool:
        known = node.op_type in self._scheme.quantized or moves_integers(node, self._scheme)
        read = [v for v in data_inputs(node) if _real(v)]
        if node.op_type in WEIGHTED and len(node.inputs) > 1 and not has_weights(node):
            read = [v for v in node.inputs[:2] if v is not None]
        if not known or not read or any(given(v) is None and not _stored(v) for v in read):
            return False
        values = [result(node, self._scheme)] if len(node.outputs) == 1 else list(node.outputs)
        return all(wanted(value) is not None for value in values if value.uses() or value.is_graph_output())


def _real(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _stored(value: ir.Value) -> bool:
    """Says whether a value is one number, or integers with a scale per channel."""
    found = behind(value)
    if found is not None:
        return found.constant
    return is_constant(value) and value.const_value is not None and value.const_value.size == 1
