"""Asks the compiler what it cannot take, without writing a file."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.names import name_nodes
from edgewright.targets._tflite.compile import prepare, unsupported
from edgewright.targets._tflite.options import Options


def refusals(model: ir.Model, options: Options) -> Iterator[str]:
    """Yields one sentence per reason: a size that is not fixed, an operator without a rule (named with its node)."""
    named = model.clone()
    name_nodes(named.graph)
    try:
        prepared = prepare(named, options)
    except StepFailed as error:
        yield error.message
        return
    yield from (f"the compiler to LiteRT does not know {operator}" for operator in unsupported(prepared))
