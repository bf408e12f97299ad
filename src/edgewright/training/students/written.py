"""A student as a hub model with the tensors of its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.training.export import export
from edgewright.training.students.interface import Interface

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn


def exported(network: nn.Module, interface: Interface, title: str) -> ir.Model:
    """Exports a student: batch norm unfolded, names, dtypes and shapes as its teacher has them.

    The batch stays open inside even where the teacher fixes it, so that nothing in the student depends on its size.

    Args:
        network: Takes the inputs of `interface` by position and returns its outputs.
        interface: Of the teacher.
        title: What errors call the network.

    Raises:
        StepFailed: It cannot be exported.
        ConfigError: What it gives is not what the teacher gives.
    """
    from edgewright.graph import tidy

    free = [replace(spec, shape=("batch", *spec.shape[1:])) for spec in interface.inputs]
    outputs = [spec.name for spec in interface.outputs]
    model = export(network, free, outputs, title=title)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter notes the folders of this machine
    for value in (*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)):
        value.metadata_props.clear()
    model, _ = tidy.tidy(model)
    return adopted(model, interface, title)


def adopted(model: ir.Model, interface: Interface, title: str) -> ir.Model:
    """Gives `model` the names and shapes of the teacher's inputs and outputs, in place; use the returned one.

    Raises:
        ConfigError: Their number, dtypes or sizes differ from the teacher's.
    """
    from edgewright.graph.load import tensor_specs
    from edgewright.graph.shapes import refresh_shapes

    found = tensor_specs(model)
    _require(title, "takes", found[0], interface.inputs)
    _require(title, "gives", found[1], interface.outputs)
    _free_names(model, {spec.name for spec in (*interface.inputs, *interface.outputs)})
    _stamp([v for v in model.graph.inputs if v.name not in model.graph.initializers], interface.inputs)
    _stamp(model.graph.outputs, interface.outputs)
    refresh_shapes(model)
    return model


def _stamp(values: Sequence[ir.Value], specs: Sequence[TensorSpec]) -> None:
    import onnx_ir as ir

    for value, spec in zip(values, specs, strict=True):
        value.name = spec.name
        value.shape = ir.Shape(spec.shape)


def _free_names(model: ir.Model, wanted: set[str]) -> None:
    """Renames inner values that bear a name of the interface."""
    inner = [value for node in model.graph for value in node.outputs if not value.is_graph_output()]
    for value in (*inner, *model.graph.initializers.values()):
        if value.name in wanted:
            value.name = f"{value.name}_student"


def _require(title: str, verb: str, found: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> None:
    agree = len(found) == len(wanted) and all(map(_like, found, wanted))
    if not agree:
        shown = [", ".join(map(str, specs)) for specs in (found, wanted)]
        message = f"student {title} {verb} {shown[0]}, its teacher {verb} {shown[1]}"
        raise ConfigError(message, hint="a student has the inputs and outputs of its teacher, in the same order")


def _like(found: TensorSpec, wanted: TensorSpec) -> bool:
    """Says whether a tensor can stand in for another: one dtype, as many axes, and no size that is another's."""
    if found.dtype != wanted.dtype or len(found.shape) != len(wanted.shape):
        return False
    pairs = zip(found.shape[1:], wanted.shape[1:], strict=True)
    return all(a == b or isinstance(a, str) for a, b in pairs) and not (
        found.shape and isinstance(found.shape[0], int) and found.shape[0] != wanted.shape[0]
    )
