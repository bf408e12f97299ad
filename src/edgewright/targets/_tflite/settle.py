"""A quantised graph made such that every operator finds the integers its kernel takes.

The numbers of the plan stay: what a kernel cannot say directly is said with one more quantiser behind or before it, and
what that would not say exactly stays in float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.edges import given, insert_before, insert_behind, quantised_as, wanted
from edgewright.graph.propagate import propagate
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, Numbers, behind, numbers, numbers_of_quantize
from edgewright.graph.weights import weight_axis
from edgewright.targets._tflite.constants import fold_moves, make_signed
from edgewright.targets._tflite.fusion import Fused, activation_code, fused_activations
from edgewright.targets._tflite.kernels import (
    AVERAGES,
    COMPUTES,
    INT16,
    MOVES,
    PICKS,
    WEIGHS,
    Kernel,
    constant_data,
    data_inputs,
    kernel,
)
from edgewright.targets._tflite.stored import real

_EXACT = 127
"""A single number is stored as so many steps, which keeps its scale near those of other tensors."""


@dataclass(slots=True)
class Notes:
    """What could not be said as the plan has it: node -> what was done instead."""

    found: dict[str, str] = field(default_factory=dict)

    def add(self, node: ir.Node, what: str) -> None:
        self.found.setdefault(node.name or "", what)


def settle(graph: ir.Graph) -> Notes:
    """Puts in the quantisers that LiteRT's kernels need, in place.

    Args:
        graph: Lowered, channels-last, shapes known.
    """
    notes = Notes()
    if not any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in graph):
        return notes
    make_signed(graph)
    fold_moves(graph)
    _once_per_quantiser(graph, notes)
    taken = {fused.node for fused in fused_activations(graph).values()}

    def moves(node: ir.Node) -> tuple[int, ...]:
        return _data(node, MOVES)

    def picks(node: ir.Node) -> tuple[int, ...]:
        rescales = bool(activation_code(node)) and given(node.inputs[0]) is not None
        return () if node in taken or rescales else _data(node, PICKS)

    propagate(graph, moves, picks)
    for node in list(graph):
        if (found := kernel(node)) is not None:
            _scalars(graph, node, found)
            _settle_result(graph, node, found, notes)
    propagate(graph, moves, picks)
    return notes


def last_value(node: ir.Node, fused: dict[ir.Node, Fused] | None = None) -> ir.Value:
    """Returns what a node writes, behind the activation it takes in."""
    return fused[node].value if fused and node in fused else node.outputs[0]


def _data(node: ir.Node, kind: str) -> tuple[int, ...]:
    found = kernel(node)
    if found is None or found.kind != kind:
        return ()
    return tuple(index for index in data_inputs(node, found) if index < len(node.inputs))


def _once_per_quantiser(graph: ir.Graph, notes: Notes) -> None:
    """Gives a value that is quantised in several ways several makers: rounding one of them again would differ."""
    for node in list(graph):
        found = kernel(node)
        if found is None or found.kind == MOVES or len(node.outputs) != 1:
            continue
        for params in quantised_as(node.outputs[0])[1:]:
            twin = ir.node(
                node.op_type,
                list(node.inputs),
                {attribute.name: attribute for attribute in node.attributes.values()},
                domain=node.domain,
                name=f"{node.name}/again",
            )
            out, old = twin.outputs[0], node.outputs[0]
            out.name, out.type, out.shape = f"{old.name}/again", old.type, old.shape
            out.metadata_props.update(old.metadata_props)
            graph.insert_after(node, twin)
            for use in list(old.uses()):
                if numbers_of_quantize(use.node) == params:
                    use.node.replace_input_with(use.idx, out)
            notes.add(node, "computed once per scale: its result is quantised in several ways")


def _scalars(graph: ir.Graph, node: ir.Node, found: Kernel) -> None:
    """Stores single numbers that an operator computes with as integers, which says them exactly."""
    params = [given(node.inputs[index]) for index in data_inputs(node, found)]
    known = next((each for each in params if each is not None), None)
    if found.kind != COMPUTES or known is None:
        return
    for index, each in zip(data_inputs(node, found), params, strict=True):
        array = numbers(node.inputs[index])
        if each is None and array is not None and array.size and np.ptp(array) == 0:
            size = float(np.abs(array.reshape(-1)[0]))
            steps = _EXACT if known.dtype != INT16 else np.iinfo(INT16).max
            scale = float(np.float32(size / steps)) if size else 1.0
            insert_before(graph, node, index, Numbers(known.dtype, scale, 0))


def _settle_result(graph: ir.Graph, node: ir.Node, found: Kernel, notes: Notes) -> None:
    value = node.outputs[0]
    users = [use.node for use in value.uses()]
    if found.kind == WEIGHS or not users or found.kind not in (COMPUTES, AVERAGES):
        return
    read = [given(node.inputs[index]) for index in data_inputs(node, found)]
    asked = wanted(value)
    if asked is None or any(each is None for each in read):
        return
    must = read[0] if found.kind == AVERAGES else found.fixed.get(asked.dtype)
    if must is not None and must != asked and must.dtype == asked.dtype:
        insert_behind(graph, value, must)
        notes.add(node, f"computed with scale {must.scale:g}, then rounded to the plan's {asked.scale:g}")


def refusal(node: ir.Node, fused: dict[ir.Node, Fused]) -> str | None:
    """Returns why a node between quantisers computes in float; None where it runs in integers.

    Args:
        node: Of a settled graph.
        fused: Activations taken in.
    """
    found = kernel(node)
    if found is None:
        return f"LiteRT has no integer kernel of {node.op_type} for this form"
    inputs = [node.inputs[index] for index in data_inputs(node, found) if index < len(node.inputs)]
    read = [given(value) for value in inputs]
    if not inputs or any(each is None for each in read):
        return "it reads floats"
    params = [each for each in read if each is not None]
    reason = _types(found, params) or (_weights(node, params[0]) if found.kind == WEIGHS else "")
    return reason or _results(node, found, params, fused) or None


def _types(found: Kernel, params: list[Numbers]) -> str:
    kinds = {each.dtype for each in params}
    if len(kinds) > 1 or not kinds <= found.types:
        return f"LiteRT has no kernel of it for {' and '.join(sorted(kinds))}"
    if INT16 in kinds and any(each.zero for each in params):
        return "16-bit activations with a zero point"
    if found.kind in (MOVES, PICKS) and len(set(params)) > 1:
        return "what it joins has different scales and goes on as floats"
    return ""


def _results(node: ir.Node, found: Kernel, params: list[Numbers], fused: dict[ir.Node, Fused]) -> str:
    values = [last_value(node, fused)] if node in fused else list(node.outputs)
    for value in values:
        if value.dtype != ir.DataType.FLOAT or not value.name:
            continue
        asked = wanted(value)
        if asked is None:
            return "its result goes on as floats"
        if asked.dtype != params[0].dtype:
            return f"it reads {params[0].dtype} and gives {asked.dtype}"
        same = found.kind in (MOVES, AVERAGES) or (found.kind == PICKS and not activation_code(node))
        must = params[0] if same else found.fixed.get(asked.dtype)
        if must is not None and must != asked:
            return f"scale {asked.scale:g} where the kernel has {must.scale:g}"
        if asked.dtype == INT16 and asked.zero:
            return "16-bit activations with a zero point"
    return ""


def _weights(node: ir.Node, data: Numbers) -> str:
    stored = behind(node.inputs[1])
    integers = None if stored is None else stored.integers()
    if stored is None or integers is None or stored.scale is None:
        return "its weights are not stored as integers"
    if stored.dtype != "int8" or np.any(stored.zero_point):
        return f"weights of {stored.dtype}" + (" with a zero point" if np.any(stored.zero_point) else "")
    if integers.size and integers.min() < -_EXACT:
        return "weights of -128, which the specification leaves out"
    if stored.axis is not None and stored.axis != weight_axis(node, integers.ndim):
        return f"weight scales along axis {stored.axis}"
    return _bias(node, data, np.asarray(stored.scale, np.float64).reshape(-1))


def _bias(node: ir.Node, data: Numbers, weights: NDArray[Any]) -> str:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return ""
    if not constant_data(value):
        return "its bias is computed"
    found = real(value)
    assert found is not None
    limit = np.iinfo(np.int64 if data.dtype == INT16 else np.int32).max
    steps = np.abs(found.astype(np.float64).reshape(-1)) / (data.scale * weights)
    return "its bias does not fit into the accumulator" if np.any(steps > limit) else ""
