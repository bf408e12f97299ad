"""Constants computed before the compiler looks at the graph."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.shapes import infer_shapes

_INPUT_LIMIT, _OUTPUT_LIMIT = 1 << 24, 1 << 24
_KEPT = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def fold(model: ir.Model) -> ir.Model:
    """Returns the model with everything folded that does not depend on its inputs, shapes included."""
    from onnxscript import optimizer

    if not any(_worth(node) for node in model.graph):
        return model
    optimizer.optimize_ir(model, input_size_limit=_INPUT_LIMIT, output_size_limit=_OUTPUT_LIMIT, should_fold=_should)
    return infer_shapes(model)


def _should(node: ir.Node) -> bool | None:
    if node.op_type in _KEPT:
        return False
    return True if node.op_type == "ConstantOfShape" else None


def _worth(node: ir.Node) -> bool:
    """Says whether folding could do anything: onnxscript takes most of a second to import."""
    if node.op_type in _KEPT:
        return False
    computed = [value for value in node.inputs if value is not None and value.const_value is None]
    return not computed or node.op_type in ("Shape", "Size", "Constant", "Identity", "If", "Loop")
