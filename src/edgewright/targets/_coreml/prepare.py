"""The hub model in the form that the converter takes: fixed sizes, and tensors of Core ML's own types at its border."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgewright.core.tensors import TensorSpec
from edgewright.graph.initializers import add_initializer
from edgewright.graph.load import tensor_specs
from edgewright.graph.qdq import fold_stored_weights
from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import bind_axes
from edgewright.targets._coreml.halves import widen
from edgewright.targets._coreml.options import CONSTEXPR, Options

BORDER = {"float32": "float32", "float16": "float32", "float64": "float32"}
"""NumPy's name of a model's input or output -> that of the package's; integers and truth values are `int32`."""
_STORED = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_NOT_STORED = frozenset({ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT32})
"""Integers that Core ML has no stored form for: those of biases, above all."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A copy of the model, and what the package calls its tensors.

    Attributes:
        model: Of fixed sizes; inputs and outputs have the types of the package.
        inputs: The package's own, in the graph's order.
        outputs: The package's own, in the graph's order.
    """

    model: ir.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def prepare(model: ir.Model, options: Options) -> Prepared:
    """Returns a converted copy of `model`, which is left as it is.

    Raises:
        SourceError: Its sizes do not work out.
    """
    bound = bind_axes(model, {}, default=options.batch, computed=False)
    fold_stored_weights(bound.graph, _NOT_STORED | (_STORED if options.release < CONSTEXPR else frozenset()))
    _give_indices_an_axis(bound.graph)
    takes, gives = tensor_specs(bound)
    widen(bound)
    names: set[str] = set()
    inputs = tuple(_border(spec, names) for spec in takes)
    outputs = tuple(_border(spec, names) for spec in gives)
    _cast_inputs(bound, inputs)
    _cast_outputs(bound, outputs)
    return Prepared(bound, inputs, outputs)


def _give_indices_an_axis(graph: ir.Graph) -> None:
    """Gathers by a list of one in place of a single number, in place: coremltools fails on numbers without an axis."""
    for node in list(graph):
        index = numbers(node.inputs[1]) if node.op_type == "Gather" else None
        if index is None or index.ndim:
            continue
        old, axis = node.outputs[0], node.attributes.get_int("axis", 0) or 0
        listed = add_initializer(graph, f"{node.name}/index", index.reshape(1))
        axes = add_initializer(graph, f"{node.name}/axes", np.array([axis], np.int64))
        gathered = ir.node("Gather", [node.inputs[0], listed], {"axis": axis}, name=node.name)
        squeezed = ir.node("Squeeze", [gathered.outputs[0], axes], name=f"{node.name}/squeezed")
        gathered.outputs[0].name = f"{node.name}/listed"
        new = squeezed.outputs[0]
        new.type, new.shape = old.type, old.shape
        graph.insert_before(node, [gathered, squeezed])
        name, old.name = old.name, f"{node.name}/single"
        new.name = name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _border(spec: TensorSpec, taken: set[str]) -> TensorSpec:
    name = re.sub(r"\W", "_", spec.name, flags=re.ASCII)
    name = name if name[:1].isalpha() else f"t_{name}"
    while name in taken:
        name += "_"
    taken.add(name)
    return TensorSpec(name, BORDER.get(spec.dtype, "int32"), spec.shape)


def _cast_inputs(model: ir.Model, wanted: tuple[TensorSpec, ...]) -> None:
    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    for value, spec in zip(given, wanted, strict=True):
        declared = value.dtype
        kind = ir.DataType[_KINDS[spec.dtype]]
        if declared == kind or declared is None or not value.uses():
            continue
        uses = list(value.uses())
        cast = ir.node("Cast", [value], {"to": ir.AttrInt64("to", int(declared))}, name=f"{value.name}/cast")
        model.graph.insert_before(next(iter(model.graph)), cast)
        for use in uses:
            use.node.replace_input_with(use.idx, cast.outputs[0])
        _type(cast.outputs[0], f"{value.name}/declared", declared, value.shape)
        value.dtype = kind


def _cast_outputs(model: ir.Model, wanted: tuple[TensorSpec, ...]) -> None:
    for index, (value, spec) in enumerate(zip(list(model.graph.outputs), wanted, strict=True)):
        kind = ir.DataType[_KINDS[spec.dtype]]
        if value.dtype == kind:
            continue
        cast = ir.node("Cast", [value], {"to": ir.AttrInt64("to", int(kind))}, name=f"{value.name}/cast")
        model.graph.append(cast)
        _type(cast.outputs[0], f"{value.name}/given", kind, value.shape)
        model.graph.outputs[index] = cast.outputs[0]


_KINDS = {"float32": "FLOAT", "int32": "INT32"}


def _type(value: ir.Value, name: str, kind: ir.DataType, shape: ir.Shape | None) -> None:
    value.name, value.type, value.shape = name, ir.TensorType(kind), shape
