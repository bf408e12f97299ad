"""The form in which channels are easiest to follow."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.names import name_nodes
from edgewright.graph.shapes import forget_outputs, infer_shapes, recall_outputs

_FOLD_ELEMENTS = 1 << 24


def prepare(model: ir.Model) -> ir.Model:
    """Returns `model` with constants as initialisers, shape arithmetic folded, nodes named and shapes inferred.

    Batch norms stay as they are. Do this before `find_groups`: names of groups and members refer to the result.

    Args:
        model: May be changed; use the returned one.
    """
    from onnx_ir.passes.common import LiftConstantsToInitializersPass, NameFixPass, RemoveUnusedNodesPass
    from onnxscript import optimizer

    declared = forget_outputs(model)
    model = infer_shapes(model)
    optimizer.fold_constants(model, input_size_limit=_FOLD_ELEMENTS, output_size_limit=_FOLD_ELEMENTS)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    RemoveUnusedNodesPass()(model)
    NameFixPass()(model)
    name_nodes(model.graph)
    model = infer_shapes(model)
    recall_outputs(model, declared)
    return model
