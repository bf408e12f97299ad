"""Shape inference, and dynamic axes bound to sizes."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from edgewright.errors import SourceError
from edgewright.graph.load import weight_bytes

_READ_BYTES = 1 << 12
"""Constants up to this size may decide shapes."""
_HINT = "the graph contradicts itself; export it again, or `edgewright inspect` an earlier version of it"


def clear_shapes(model: ir.Model, *, outputs: bool = False) -> None:
    """Forgets inferred shapes, in place: exporters leave stale ones that later tools believe.

    Args:
        model: Shapes of node outputs are dropped, those of initialisers taken from their values.
        outputs: Also forget the declared shapes of the graph's outputs.
    """
    for graph in model.graphs():
        kept = set() if outputs else {id(value) for value in graph.outputs}
        for node in graph:
            for value in node.outputs:
                if id(value) not in kept:
                    value.shape = None
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.shape = ir.Shape(value.const_value.shape.numpy())
                value.dtype = value.const_value.dtype


def infer_shapes(model: ir.Model, *, strict: bool = False) -> ir.Model:
    """Returns `model` with the shape of every value that can be inferred; stale shapes are dropped first.

    Args:
        model: Left as it is but for the stale shapes.
        strict: Fail on a node whose shape rule does not fit, instead of leaving its outputs unknown.

    Raises:
        SourceError: Inference found a contradiction.
    """
    clear_shapes(model)
    return _inferred(model, strict=strict)


def refresh_shapes(model: ir.Model) -> None:
    """Infers the shapes of `model` anew, in place; weights stay where they are.

    Raises:
        SourceError: Inference found a contradiction.
    """
    clear_shapes(model)
    _copy_shapes(_inferred_alone(model, strict=False), model)


def forget_outputs(model: ir.Model) -> dict[str, ir.Shape]:
    """Forgets, in place, the declared shapes of outputs of a model with a free axis; returns them by name.

    PyTorch's tracing exporter declares the sizes of its sample; optimizers believe them and fold that batch size in.
    """
    if all(isinstance(axis, int) for value in model.graph.inputs for axis in value.shape or ()):
        return {}
    declared = {value.name or "": value.shape for value in model.graph.outputs if value.shape is not None}
    for value in model.graph.outputs:
        if not value.is_graph_input():
            value.shape = None
    return declared


def recall_outputs(model: ir.Model, declared: Mapping[str, ir.Shape]) -> None:
    """Gives outputs that inference knows nothing or less of their declared shapes back, in place."""
    for value in model.graph.outputs:
        said = declared.get(value.name or "")
        if said is not None and (value.shape is None or len(value.shape) != len(said)):
            value.shape = said
        elif said is not None and value.shape is not None:
            pairs = zip(value.shape, said, strict=True)
            value.shape = ir.Shape([old if _invented(new) else new for new, old in pairs])


def _invented(axis: int | ir.SymbolicDim) -> bool:
    return not isinstance(axis, int) and (axis.value is None or axis.value.startswith("unk__"))


def bind_axes(model: ir.Model, sizes: Mapping[str, int], *, default: int = 1, computed: bool = True) -> ir.Model:
    """Returns a copy of `model` whose dynamic input axes have sizes, and all shapes that follow from them.

    Args:
        model: Left as it is.
        sizes: Axis name -> size.
        default: Size of axes that `sizes` does not name, and of unnamed ones.
        computed: Also work out the shapes that the graph computes; costs more.

    Raises:
        SourceError: The graph does not work out with these sizes.
    """
    bound = model.clone()
    for value in bound.graph.inputs:
        if value.shape is not None and value.name not in bound.graph.initializers:
            dims = [d if isinstance(d, int) else sizes.get(d.value or "", default) for d in value.shape]
            value.shape = ir.Shape(dims)
    clear_shapes(bound, outputs=True)
    found = _inferred(bound, strict=False)
    if computed and any(static_shape(value) is None for node in found.graph for value in node.outputs):
        _copy_folded_shapes(found)
    return found


def _copy_folded_shapes(model: ir.Model) -> None:
    """Fills in shapes that exporters compute in the graph (Shape, Gather, Concat), by folding a copy of it."""
    from onnxscript import optimizer

    folded = model.clone()
    optimizer.fold_constants(folded)
    known = {value.name: value for node in _inferred(folded, strict=False).graph for value in node.outputs}
    for node in model.graph:
        for value in node.outputs:
            if static_shape(value) is None and static_shape(known.get(value.name)) is not None:
                value.type, value.shape = known[value.name].type, known[value.name].shape


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Returns the shape of `value` if every axis is a number, else None."""
    if value is None or value.shape is None:
        return None
    dims = tuple(d for d in value.shape if isinstance(d, int))
    return dims if len(dims) == len(value.shape) else None


def _inferred(model: ir.Model, *, strict: bool) -> ir.Model:
    found = _inferred_alone(model, strict=strict)
    made = ir.external_data.load_to_model(model.clone())
    _copy_shapes(found, made)
    return made


def _inferred_alone(model: ir.Model, *, strict: bool) -> ir.Model:
    """Returns the graph with its shapes, without weights."""
    try:
        proto = ir.to_proto(_without_weights(model))
        return ir.from_proto(
            onnx.shape_inference.infer_shapes(proto, check_type=strict, strict_mode=strict, data_prop=True)
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise SourceError(f"shape inference failed: {_first_lines(error)}", hint=_HINT) from error


def _without_weights(model: ir.Model) -> ir.Model:
    """Returns the model, or a copy whose weights are inputs: inference reads small constants, and copies all."""
    if weight_bytes(model) <= _READ_BYTES:
        return model
    light = model.clone()
    given = {id(value) for value in light.graph.inputs}
    for name, value in list(light.graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > _READ_BYTES:
            del light.graph.initializers[name]
            value.const_value = None
            if id(value) not in given:
                light.graph.inputs.append(value)
    return light


def _copy_shapes(source: ir.Model, target: ir.Model) -> None:
    for found, graph in zip(source.graphs(), target.graphs(), strict=True):
        for node, same in zip(found, graph, strict=True):
            for value, own in zip(node.outputs, same.outputs, strict=True):
                own.type, own.shape = value.type, value.shape


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
