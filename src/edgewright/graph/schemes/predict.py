"""Tells before compiling which operators a runtime will compute in integers, and compares with what it then did."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.core.target import NodePlacement, Scheme
from edgewright.errors import ConfigError
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.graph.schemes._flow import CONVERSION, FLOAT, FOLDED, FUSED, INTEGER
from edgewright.graph.schemes._litert_fusion import LitertFusion
from edgewright.graph.schemes._ort_fusion import OrtFusion
from edgewright.graph.schemes._ov_fusion import OvFusion

PREDICTED = ("onnxruntime", "openvino", "litert")
DISABLED = "edgewright.disabled_optimizers"
COMPLETES = "WeightBiasQuantization"
LAYOUT = ("Reorder", "Transpose")
"""Kernels that may carry the name of a neighbour whose layout they change."""
_QUANTISERS = (QUANTIZE, DEQUANTIZE)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator, as predicted and as it then ran.

    Attributes:
        node: Its name.
        op: Its type.
        predicted: `integer`, `float`, `fused`, `folded` or `conversion`.
        observed: The same, read off the placement.
    """

    node: str
    op: str
    predicted: str
    observed: str

    @property
    def agrees(self) -> bool:
        """A node that left no trace was folded or fused: placements do not tell these apart."""
        gone = (FUSED, FOLDED)
        return self.predicted == self.observed or (self.predicted in gone and self.observed in gone)


def predict(graph: ir.Graph, scheme: Scheme, machine: str = "") -> Mapping[str, str]:
    """Returns name of every operator -> what becomes of it; quantisers are left out.

    `integer`: a kernel on integers. `float`: a kernel on floats. `fused`: computed inside a neighbour, or left out.
    `folded`: known before the model runs. `conversion`: a change of type.

    Args:
        graph: With quantisers, nodes named, shapes and types inferred.
        scheme: Whose runtime and session options count.
        machine: Kind of processor, as `platform.machine()` names it; this one's by default.

    Raises:
        ConfigError: The fusions of that runtime are not known.
    """
    runtime = scheme.name.split("-")[0]
    if runtime == "onnxruntime":
        completes = COMPLETES not in scheme.session.get(DISABLED, "").split(",")
        return OrtFusion(graph, completes, x86=(machine or platform.machine()) in ("x86_64", "AMD64")).kinds
    if runtime == "openvino":
        return OvFusion(graph).kinds
    if runtime == "litert":
        return LitertFusion(graph, scheme).kinds
    raise ConfigError(f"what {runtime} fuses is not known", hint=f"runtimes with rules: {', '.join(PREDICTED)}")


def observe(graph: ir.Graph, placement: Iterable[NodePlacement]) -> Mapping[str, str]:
    """Returns the same, read off what the compiled artifact really ran.

    Args:
        graph: That was compiled.
        placement: Of the artifact.
    """
    nodes = {node.name or "": node for node in graph if node.op_type not in _QUANTISERS}
    found = dict.fromkeys(nodes, FOLDED)
    for kernel in sorted(placement, key=lambda each: not each.op.startswith(LAYOUT)):
        inside = [nodes[name] for name in kernel.source if name in nodes]
        lead = _lead(inside, kernel)
        found.update({node.name or "": FUSED for node in inside})
        if lead is not None:
            found[lead.name or ""] = _kind(kernel, lead)
    return found


def compare(graph: ir.Graph, scheme: Scheme, placement: Iterable[NodePlacement]) -> tuple[Comparison, ...]:
    """Returns every operator as predicted and as observed, in graph order."""
    told, seen = predict(graph, scheme), observe(graph, placement)
    names = {node.name or "": node.op_type for node in graph}
    return tuple(Comparison(name, names[name], told[name], seen[name]) for name in told)


def _lead(inside: list[ir.Node], kernel: NodePlacement) -> ir.Node | None:
    """Returns the operator that gave a kernel its name, or None for a kernel that only converts."""
    plain = kernel.op.split(" ")[0]
    named = [n for n in inside if n.op_type in plain or plain in n.op_type]
    if kernel.precision == CONVERSION:
        return next((n for n in inside if n.op_type == "Cast"), None)
    weighted = [n for n in inside if n.op_type in WEIGHTED]
    return next(iter((*weighted, *named, *reversed(inside))), None)


def _kind(kernel: NodePlacement, lead: ir.Node) -> str:
    if lead.op_type == "Cast":
        return CONVERSION
    return INTEGER if kernel.precision in ("int8", "integer") else FLOAT


__all__ = ["CONVERSION", "FLOAT", "FOLDED", "FUSED", "INTEGER", "Comparison", "compare", "observe", "predict"]
