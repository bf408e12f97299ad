"""Holds what runs against what was wanted, and writes the artifact."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx_ir as ir

from edgewright.core.codec import encode_json
from edgewright.core.target import Artifact, NodePlacement, Plan
from edgewright.errors import StepFailed
from edgewright.graph.qdq import is_quantised
from edgewright.graph.schemes import find, names
from edgewright.graph.schemes.lint import require
from edgewright.graph.shapes import infer_shapes
from edgewright.targets._intent import QUANTIZERS, WEIGHTED, Intent

SATISFIES = {
    "int8": frozenset({"int8", "int16", "integer"}),
    "float16": frozenset({"float16", "int8", "integer"}),
    "bfloat16": frozenset({"bfloat16", "int8", "integer"}),
}
DYNAMIC = "int8 (dynamic)"
"""Integer weights, activations quantised as the operator runs: as wanted where the graph itself has no scales for them,
not where it has quantisers that lead nowhere."""
_LAYOUT = "Reorder"
"""OpenVINO's changes of memory layout carry the name of the node whose tensor they change, and do no arithmetic."""
_SHOWN = 12


def require_obedient(model: ir.Model, plan: Plan) -> None:
    """Holds a quantised model against the scheme that its plan names, before anything is compiled.

    Raises:
        StepFailed: It breaks a rule; the message names rule and node.
    """
    if plan.scheme in names() and is_quantised(model.graph):
        checked = infer_shapes(model)
        require(checked.graph, find(plan.scheme), plan.kept_float)


def judged(
    model: ir.Model, placement: Iterable[NodePlacement], wanted: Mapping[str, Intent]
) -> tuple[NodePlacement, ...]:
    """Marks the nodes that run in another precision than wanted, then the conversions that serve only those."""
    first = tuple(_against(node, wanted) for node in placement)
    failed = {source for node in first if not node.planned for source in node.source}
    neighbours = _conversions_around(model, failed)
    return tuple(_island(node, neighbours) for node in first)


def _against(node: NodePlacement, wanted: Mapping[str, Intent]) -> NodePlacement:
    if node.precision == "conversion" or node.op.startswith(_LAYOUT):
        return node
    for source in node.source:
        intent = wanted.get(source)
        if intent is not None and not _satisfies(node.precision, intent):
            reason = intent.obstacle or "the runtime has no such kernel for it, or did not choose it"
            note = f"{source} should run in {intent.precision}, runs in {node.precision}: {reason}"
            return dataclasses.replace(node, planned=False, note=f"{node.note}; {note}" if node.note else note)
    return node


def _satisfies(precision: str, intent: Intent) -> bool:
    dynamic = precision == DYNAMIC and intent.precision == "int8" and not intent.obstacle
    return dynamic or precision in SATISFIES[intent.precision]


def _conversions_around(model: ir.Model, failed: set[str]) -> dict[str, str]:
    """Returns quantiser -> the failed node it serves."""
    found: dict[str, str] = {}
    for node in model.graph:
        if node.op_type in QUANTIZERS:
            others = [use.node.name for value in node.outputs for use in value.uses()]
            source = node.inputs[0].producer() if node.inputs[0] is not None else None
            if source is not None and node.op_type == "QuantizeLinear":
                others.append(source.name)
            hit = next((name for name in others if name in failed), None)
            if hit is not None:
                found[node.name or ""] = hit
    return found


def _island(node: NodePlacement, neighbours: Mapping[str, str]) -> NodePlacement:
    hit = next((neighbours[source] for source in node.source if source in neighbours), None)
    if node.precision != "conversion" or hit is None:
        return node
    return dataclasses.replace(node, planned=False, note=f"conversion on the edge of the float island around {hit}")


def main_precision(model: ir.Model, placement: Iterable[NodePlacement]) -> str:
    """Returns the precision of most nodes with weights, or of most nodes where none has any."""
    weighted = {node.name for node in model.graph if node.op_type in WEIGHTED}
    arithmetic = [node for node in placement if node.precision not in ("conversion", "integer")]
    heavy = [node for node in arithmetic if weighted.intersection(node.source)]
    counted = Counter(node.precision for node in heavy or arithmetic)
    return counted.most_common(1)[0][0] if counted else "float32"


def write_artifact(artifact: Artifact, out: Path, *, strict: bool) -> None:
    """Writes `artifact.json`.

    Raises:
        StepFailed: `strict`, and a node does not run as planned.
    """
    unplanned = [node for node in artifact.placement if not node.planned]
    if strict and unplanned:
        raise StepFailed(_refusal(artifact, unplanned), hint=_hint(unplanned))
    (out / "artifact.json").write_bytes(encode_json(artifact))


def _refusal(artifact: Artifact, unplanned: list[NodePlacement]) -> str:
    lines = [f"  {node.node} ({node.op}, {node.where}, {node.precision}): {node.note}" for node in unplanned[:_SHOWN]]
    more = [f"  and {len(unplanned) - _SHOWN} more"] if len(unplanned) > _SHOWN else []
    head = f"{artifact.target}: {len(unplanned)} of {len(artifact.placement)} nodes do not run as planned:"
    return "\n".join([head, *lines, *more])


def _hint(unplanned: list[NodePlacement]) -> str:
    names = [source for node in unplanned if node.precision != "conversion" for source in node.source]
    shown = ", ".join(dict.fromkeys(names[:4])) or "them"
    return f"keep {shown} in float in the quantisation step, choose another scheme, or set strict = false"
