"""The same function in fewer nodes."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.custom import declare, libraries
from edgewright.graph.heads import turn_maps_first
from edgewright.graph.names import name_nodes
from edgewright.graph.pools import cascade_max_pools
from edgewright.graph.shapes import forget_outputs, infer_shapes, recall_outputs
from edgewright.graph.stem import fold_space_to_depth

FOLD_INPUT_ELEMENTS = 1 << 24
FOLD_OUTPUT_ELEMENTS = 1 << 20
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def simplify(model: ir.Model) -> ir.Model:
    """Returns `model` in fewer nodes, with the same inputs and outputs.

    Raises:
        StepFailed: The optimizer changed the interface of the model.
    """
    from onnxscript import optimizer

    before = [v.name for v in (*model.graph.inputs, *model.graph.outputs)]
    declared = forget_outputs(model)
    model = infer_shapes(model)
    optimizer.optimize_ir(
        model,
        num_iterations=4,
        input_size_limit=FOLD_INPUT_ELEMENTS,
        output_size_limit=FOLD_OUTPUT_ELEMENTS,
        should_fold=_fold,
    )
    model = infer_shapes(model)
    if fold_space_to_depth(model.graph) + cascade_max_pools(model.graph) + turn_maps_first(model.graph):
        ir.passes.common.RemoveUnusedNodesPass()(model)
    _drop_unused_initializers(model.graph)
    name_nodes(model.graph)
    native = libraries(model)
    ir.passes.common.ClearMetadataAndDocStringPass()(model)
    declare(model, native)
    after = [v.name for v in (*model.graph.inputs, *model.graph.outputs)]
    if before != after:
        raise StepFailed(f"clean-up changed the model's tensors from {before} to {after}", hint="report this model")
    model = infer_shapes(model)
    recall_outputs(model, declared)
    return model


def _fold(node: ir.Node) -> bool | None:
    return False if node.op_type in QUANTIZERS else None


def _drop_unused_initializers(graph: ir.Graph) -> None:
    kept = {id(v) for v in (*graph.inputs, *graph.outputs)}
    for name, value in list(graph.initializers.items()):
        if not value.uses() and id(value) not in kept:
            del graph.initializers[name]
