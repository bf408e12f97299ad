"""The form of an imported model that passes rely on."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass, NameFixPass

from edgewright.graph import opset, qdq, shapes


def tidy(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """Gives an imported model the form that passes rely on.

    Initialisers are no inputs, constants are initialisers, local functions are inlined, every node and every dynamic
    input axis has a name, names of nodes and values are unique, shapes are inferred. Where only weights are stored as
    integers they become the float32 values they stand for: runtimes would compute those anew in every inference, and
    whatever is compared with such an original would look faster than it is.

    Args:
        model: Changed in place; use the returned one.

    Returns:
        The model, and what was repaired, for a reader.

    Raises:
        SourceError: Shape inference found a contradiction.
    """
    notes = (*_fix_initialisers(model), *_inline(model), *_settle(model))
    _name_axes(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    NameFixPass()(model)
    notes = (*notes, *_expand_weights(model))
    return shapes.infer_shapes(model), notes


def _fix_initialisers(model: ir.Model) -> tuple[str, ...]:
    kept = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    listed = len(model.graph.inputs) - len(kept)
    if not listed:
        return ()
    model.graph.inputs.clear()
    model.graph.inputs.extend(kept)
    return (f"{listed} initialisers were listed as inputs; they are fixed now",)


def _expand_weights(model: ir.Model) -> tuple[str, ...]:
    if qdq.is_quantised(model.graph):
        return ()
    count = qdq.fold_stored_weights(model.graph)
    return (f"{count} weights stored as integers were turned into the float32 values they stand for",) if count else ()


def _settle(model: ir.Model) -> tuple[str, ...]:
    before = model.ir_version
    if not opset.settle_ir_version(model):
        return ()
    return (f"the ONNX file version was lowered from {before} to {model.ir_version}, which runtimes read",)


def _inline(model: ir.Model) -> tuple[str, ...]:
    count = len(model.functions)
    if not count:
        return ()
    InlinePass()(model)
    return (f"{count} local functions were inlined",)


def _name_axes(model: ir.Model) -> None:
    for value in model.graph.inputs:
        if value.shape is not None:
            dims = [
                d if isinstance(d, int) or d.value else ("batch" if i == 0 else f"{value.name}_{i}")
                for i, d in enumerate(value.shape)
            ]
            value.shape = ir.Shape(dims)
