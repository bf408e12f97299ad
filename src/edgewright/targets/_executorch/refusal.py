"""What ExecuTorch cannot take, known without exporting."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.errors import EdgewrightError
from edgewright.graph.bridge import claims, oldest_opset
from edgewright.graph.names import name_nodes
from edgewright.graph.opset import opset

_OPEN_ENDED = {
    "NonZero": "the size of its result depends on values",
    "Unique": "the size of its result depends on values",
    "Compress": "the size of its result depends on values",
    "Loop": "it repeats other operators, which torch.export cannot follow",
    "Scan": "it repeats other operators, which torch.export cannot follow",
    "If": "it chooses between operators at run time",
}
_TYPES = ("STRING", "COMPLEX64", "COMPLEX128")


def free_axes(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per input with a free axis that is not the batch: a file has fixed sizes."""
    for value in model.graph.inputs:
        named = [(axis, getattr(size, "value", size)) for axis, size in enumerate(value.shape or ())]
        free = [f'"{size}"' if size else str(axis) for axis, size in named if axis and not isinstance(size, int)]
        if free and value.name not in model.graph.initializers:
            yield f'input "{value.name}": axis {", ".join(free)} has no fixed size, which an exported program needs'


def refusals(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per reason: a free axis, an operator that is not known (named with its node), a type."""
    yield from free_axes(model)
    named = model.clone()
    name_nodes(named.graph)
    known, version = claims(), opset(named)
    for node in named.graph:
        if node.domain not in ("", "ai.onnx") or node.op_type not in known:
            shown = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            yield f'node "{node.name}": the bridge to PyTorch does not know {shown}'
        elif node.op_type in _OPEN_ENDED and not _constant(node):
            yield f'node "{node.name}": {node.op_type} cannot be exported: {_OPEN_ENDED[node.op_type]}'
        elif (first := _oldest(node.op_type)) > version:
            yield f'node "{node.name}": {node.op_type} of opset {version} is not known, {first} is the oldest'
    for value in (*named.graph.inputs, *named.graph.outputs):
        if value.dtype is not None and value.dtype.name in _TYPES:
            yield f'tensor "{value.name}": elements of type {value.dtype.name.lower()} cannot be held'


def _oldest(operator: str) -> int:
    try:
        return oldest_opset(operator)
    except EdgewrightError:
        return 0


def _constant(node: ir.Node) -> bool:
    return all(value is None or ir.convenience.get_const_tensor(value) is not None for value in node.inputs)
