"""The form in which channels are easiest to follow."""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.initializers import add_initializer
from edgewright.graph.names import name_nodes
from edgewright.graph.pruning.sizes import bound_sizes
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
    if _write_known(model):
        RemoveUnusedNodesPass()(model)
    name_nodes(model.graph)
    model = infer_shapes(model)
    recall_outputs(model, declared)
    return model


def _write_known(model: ir.Model) -> int:
    """Writes integers that the graph computes, and that no sample changes, as constants; returns how many."""
    known = bound_sizes(model).computed
    outputs = {id(value) for value in model.graph.outputs}
    computed = [value for node in model.graph for value in node.outputs if value.name in known]
    for value in computed:
        if id(value) not in outputs:
            constant = add_initializer(model.graph, f"{value.name}/known", known[value.name or ""])
            ir.convenience.replace_all_uses_with(value, constant)
    return len(computed)
