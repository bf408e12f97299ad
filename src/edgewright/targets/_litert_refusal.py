"""Asks the compiler what it cannot take, without writing a file."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.names import name_nodes
from edgewright.targets._tflite.claims import unsupported
from edgewright.targets._tflite.compile import prepare
from edgewright.targets._tflite.options import Options


def free_axes(model: ir.Model) -> Iterator[str]:
    """Yields one sentence per input with a free axis that is not the batch: a .tflite file has fixed sizes."""
    for value in model.graph.inputs:
        named = [(axis, getattr(size, "value", size)) for axis, size in enumerate(value.shape or ())]
        free = [f'"{size}"' if size else str(axis) for axis, size in named if axis and not isinstance(size, int)]
        if free and value.name not in model.graph.initializers:
            yield f'input "{value.name}": axis {", ".join(free)} has no fixed size, which a .tflite file needs'


def refusals(model: ir.Model, options: Options) -> Iterator[str]:
    """Yields one sentence per reason: a size that is not fixed, an operator without a rule (named with its node)."""
    free = tuple(free_axes(model))
    if free:
        yield from free
        return
    named = model.clone()
    name_nodes(named.graph)
    try:
        prepared = prepare(named, options)
    except StepFailed as error:
        yield error.message
        return
    yield from (f"the compiler to LiteRT does not know {operator}" for operator in unsupported(prepared))
