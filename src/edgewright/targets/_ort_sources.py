"""Traces the nodes of ONNX Runtime's optimised graph back to the nodes they were made from.

ONNX Runtime keeps no record of it. It does keep names: a fused node is called after one of its parts, or after the
tensor it writes, with a suffix; and most tensors keep theirs. From those certain matches the rest follows along the
edges of the source graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.targets._trace import spread

_SUFFIX = re.compile(r"(_token_\d+|_nchwc|_nhwc|/\w*Fusion/?|_fused|_quant)+$")
_INLINED = frozenset({"HardSwish", "Gelu", "Celu", "Mish", "GroupNormalization", "Swish", "SoftmaxCrossEntropyLoss"})
"""Operators that ONNX Runtime may replace by the function that defines them."""
_LAYOUT = frozenset({"Transpose", "ReorderInput", "ReorderOutput"})


@dataclass(frozen=True, slots=True)
class Kernel:
    """One node of the optimised graph."""

    name: str
    op: str
    outputs: tuple[str, ...]
    inputs: tuple[str, ...] = ()


def sources(model: ir.Model, kernels: Sequence[Kernel]) -> Mapping[str, tuple[str, ...]]:
    """Returns kernel name -> names of the source nodes in it, in graph order."""
    nodes = {node.name or "": node for node in model.graph}
    owner = spread(model, _matches(nodes, kernels))
    made: dict[str, list[str]] = {}
    for name in nodes:
        if name in owner:
            made.setdefault(owner[name], []).append(name)
    return {kernel: tuple(names) for kernel, names in made.items()}


def _matches(nodes: Mapping[str, ir.Node], kernels: Iterable[Kernel]) -> dict[str, str]:
    """Certain matches: by node name, by the tensor a kernel is called after, by the tensor it writes."""
    producer = {value.name or "": name for name, node in nodes.items() for value in node.outputs}
    owner: dict[str, str] = {}
    for kernel in kernels:
        plain = _SUFFIX.sub("", kernel.name)
        for name in (kernel.name, plain, plain.removeprefix("InsertedPrecisionFreeCast_")):
            found = name if name in nodes else producer.get(name)
            if found is not None:
                owner.setdefault(found, kernel.name)
                break
    for kernel in kernels:
        for tensor in kernel.outputs:
            found = producer.get(tensor)
            if found is not None and (kernel.op not in _LAYOUT or nodes[found].op_type == kernel.op):
                owner.setdefault(found, kernel.name)
    for kernel in kernels:
        if kernel.name not in owner.values():
            _match_inlined(nodes, producer, kernel, owner)
    return owner


def _match_inlined(
    nodes: Mapping[str, ir.Node], producer: Mapping[str, str], kernel: Kernel, owner: dict[str, str]
) -> None:
    """Matches a kernel of an operator that was replaced by its definition: what reads the same tensor, if one does."""
    for tensor in kernel.inputs:
        source = nodes.get(tensor) or nodes.get(producer.get(tensor, ""))
        users = {use.node.name or "": use.node for value in source.outputs for use in value.uses()} if source else {}
        free = [name for name, node in users.items() if name not in owner and node.op_type in _INLINED]
        if len(free) == 1:
            owner[free[0]] = kernel.name
            return
