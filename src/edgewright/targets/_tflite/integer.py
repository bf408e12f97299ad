"""Which nodes run in integers: those between quantisers that TensorFlow Lite has kernels for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.edges import given
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE
from edgewright.targets._tflite.fusion import Fused
from edgewright.targets._tflite.kernels import constant_data
from edgewright.targets._tflite.settle import Notes, refusal

if TYPE_CHECKING:
    from edgewright.targets._tflite.emission import Emission

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Integers:
    """Which nodes run in integers.

    Attributes:
        nodes: Those.
        notes: Node -> why it computes in float although it reads integers, or what else than the plan was said.
    """

    nodes: frozenset[ir.Node]
    notes: Mapping[str, str]


def integer_nodes(graph: ir.Graph, fused: Mapping[ir.Node, Fused], notes: Notes | None = None) -> Integers:
    """Finds the nodes whose data come from integers and whose results go to integers only.

    Args:
        graph: Settled.
        fused: Activations taken in.
        notes: Of settling.
    """
    said = dict(notes.found) if notes is not None else {}
    taken = {activation.node for activation in fused.values()}
    found = []
    for node in graph:
        if node in taken or node.op_type in (QUANTIZE, DEQUANTIZE):
            continue
        reason = refusal(node, dict(fused))
        if reason is None:
            found.append(node)
        elif _touches_integers(node):
            said[node.name or ""] = f"computed in float: {reason}"
    return Integers(frozenset(found), said)


def require_integers(emission: Emission, notes: Mapping[str, str]) -> None:
    """Checks that a file computes in integers throughout.

    Args:
        emission: All operators are in it.
        notes: Why nodes compute in float.

    Raises:
        StepFailed: Some tensor holds floats; its operators are named.
    """
    found: dict[str, str] = {}
    for operator in emission.operators:
        tensors = [emission.tensor(n) for n in (*operator.inputs, *operator.outputs) if n >= 0]
        if any(tensor.dtype.startswith("float") for tensor in tensors):
            source = ", ".join(operator.sources) or "the borders of the model"
            found.setdefault(source, notes.get(operator.sources[0], "") if operator.sources else "")
    if found:
        named = [f"{source} ({why})" if why else source for source, why in list(found.items())[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise StepFailed(
            f"LiteRT: these nodes would compute in float: {'; '.join(named)}{more}",
            hint='quantise the whole model: static-int8(scheme="litert-s8s8-full"), nothing kept in float; '
            "or rewrite these operators",
        )


def _touches_integers(node: ir.Node) -> bool:
    return any(given(value) is not None and not constant_data(value) for value in node.inputs)
