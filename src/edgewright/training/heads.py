"""What a model decides by: its outputs before a final softmax or sigmoid."""

from __future__ import annotations

import onnx_ir as ir

_ENDS = ("Softmax", "LogSoftmax", "Sigmoid")
_PASSED = ("Identity", "Cast", "QuantizeLinear", "DequantizeLinear")
"""Operators between the end and the output that change nothing about what the end means."""


def logits_of(model: ir.Model) -> tuple[str, ...]:
    """Returns, for each output of `model`, the name of the tensor that holds its logits.

    That is the input of a final Softmax, LogSoftmax or Sigmoid (quantisers and casts may follow it), else the output.
    """
    return tuple(_logits(output) for output in model.graph.outputs)


def probability_of(model: ir.Model) -> tuple[str, ...]:
    """Returns, for each output, the operator that turns its logits into it: `Softmax`, `Sigmoid`... or ""."""
    return tuple(end.op_type if (end := _end(output)) is not None else "" for output in model.graph.outputs)


def _logits(output: ir.Value) -> str:
    end = _end(output)
    before = end.inputs[0] if end is not None else None
    return str(output.name if before is None else before.name)


def _end(output: ir.Value) -> ir.Node | None:
    value: ir.Value | None = output
    while value is not None and (node := value.producer()) is not None and node.domain in ("", "ai.onnx"):
        if node.op_type in _ENDS:
            return node if node.inputs[0] is not None and node.inputs[0].const_value is None else None
        if node.op_type not in _PASSED:
            return None
        value = node.inputs[0]
    return None
