"""The candidate's graph seen several ways: without its quantisers, with one of them undone, cut at every quantiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgewright.graph.qdq import fold_stored_weights
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE

Array = NDArray[Any]
WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")
FLOAT_SUFFIX = "/float"
CUT = "/cut"


@dataclass(frozen=True, slots=True, eq=False)
class Quantiser:
    """One activation's quantiser.

    Attributes:
        tensor: Name of the activation, that of the graph output where it is one.
        node: QuantizeLinear.
        back: The DequantizeLinear nodes behind it.
        scale: Of the integers.
        zero: Zero points.
        dtype: Of the integers, NumPy's name.
        axis: Channel axis; None for per-tensor.
    """

    tensor: str
    node: ir.Node
    back: tuple[ir.Node, ...]
    scale: Array
    zero: Array
    dtype: str
    axis: int | None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        info = np.iinfo(self.dtype)
        return int(info.min), int(info.max)

    @property
    def range(self) -> tuple[float, float]:
        """Real values that the integers express."""
        low, high = self.limits
        reach = (low - self.zero) * self.scale, (high - self.zero) * self.scale
        return float(np.min(reach[0])), float(np.max(reach[1]))


def quantisers(graph: ir.Graph) -> Iterator[Quantiser]:
    """Yields the quantisers of activations, in graph order."""
    for node in graph:
        source = node.inputs[0] if node.op_type == QUANTIZE else None
        if source is None or source.const_value is not None:
            continue
        back = tuple(use.node for use in node.outputs[0].uses() if use.node.op_type == DEQUANTIZE)
        scale, zero = constant(node.inputs[1]), constant(node.inputs[2] if len(node.inputs) > 2 else None)
        if scale is None:
            continue
        dtype = node.outputs[0].dtype
        name = "uint8" if dtype is None else str(dtype.numpy().name)
        zeros = np.zeros(scale.shape, np.int64) if zero is None else zero.astype(np.int64)
        axis = (node.attributes.get_int("axis", 1) or 0) if scale.size > 1 else None
        yield Quantiser(plain_name(source), node, back, scale.astype(np.float64), zeros, name, axis)


def plain_name(value: ir.Value) -> str:
    """Returns the name a tensor had before a quantiser was put behind it."""
    return plain_name_of(value.name or "")


def plain_name_of(name: str) -> str:
    """Returns `name` without what a quantiser added to it."""
    return name.removesuffix(FLOAT_SUFFIX)


def constant(value: ir.Value | None) -> Array | None:
    """Returns the numbers of a constant; None for anything else."""
    return None if value is None or value.const_value is None else value.const_value.numpy()


def stored(value: ir.Value | None) -> Array | None:
    """Returns the real numbers of a constant, or of one behind a DequantizeLinear."""
    if value is None:
        return None
    node = value.producer()
    if node is None or node.op_type != DEQUANTIZE:
        numbers = constant(value)
        return None if numbers is None else numbers.astype(np.float32)
    integers, scale = constant(node.inputs[0]), constant(node.inputs[1])
    if integers is None or scale is None:
        return None
    zero = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    axis = (node.attributes.get_int("axis", 1) or 0) if scale.size > 1 else None
    from edgewright.graph.affine import dequantise

    return dequantise(integers, scale, np.zeros(scale.shape, np.int64) if zero is None else zero, axis)


def bypass(quantiser: Quantiser) -> None:
    """Lets the readers of a quantised activation read it as it was, in place."""
    source = quantiser.node.inputs[0]
    assert source is not None
    for node in quantiser.back:
        old = node.outputs[0]
        output = old.is_graph_output()
        name = old.name
        ir.convenience.replace_all_uses_with(old, source, replace_graph_outputs=True)
        if output:
            old.name, source.name = f"{name}/unused", name


def without(model: ir.Model, tensor: str) -> ir.Model:
    """Returns a copy without the quantiser of one activation."""
    copy = model.clone()
    for quantiser in list(quantisers(copy.graph)):
        if quantiser.tensor == tensor:
            bypass(quantiser)
    RemoveUnusedNodesPass()(copy)
    return copy


def with_weights(model: ir.Model, replaced: Mapping[str, Array]) -> ir.Model:
    """Returns a copy in which constants read by layers are others.

    Args:
        model: With or without quantisers.
        replaced: `node name/input index` -> float32 numbers.
    """
    copy = model.clone()
    for node in list(copy.graph):
        for index in (1, 2):
            numbers = replaced.get(f"{node.name}/{index}")
            if numbers is not None:
                array = np.ascontiguousarray(numbers, np.float32)
                tensor = ir.tensor(array, name=f"{node.name}/{index}/given")
                value = ir.Value(
                    name=tensor.name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype)
                )
                copy.graph.register_initializer(value)
                node.replace_input_with(index, value)
    RemoveUnusedNodesPass()(copy)
    return copy


def float_twin(model: ir.Model) -> ir.Model:
    """Returns a copy without quantisers, weights as the real numbers they stand for, half precision made single."""
    copy = model.clone()
    for quantiser in list(quantisers(copy.graph)):
        bypass(quantiser)
    RemoveUnusedNodesPass()(copy)
    fold_stored_weights(copy.graph)
    if is_half(copy.graph):
        _widen(copy)
    return copy


def is_half(graph: ir.Graph) -> bool:
    """Says whether some layer computes in float16."""
    return any(v.dtype == ir.DataType.FLOAT16 for node in graph for v in node.outputs)


def _widen(model: ir.Model) -> None:
    graph = model.graph
    for value in graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT16 and value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
            value.type = ir.TensorType(ir.DataType.FLOAT)  # a clone shares its type with the original
    for node in graph:
        if node.op_type == "Cast" and node.attributes.get_int("to", 0) == int(ir.DataType.FLOAT16):
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT16:
                value.type = ir.TensorType(ir.DataType.FLOAT)


def cut(model: ir.Model, *, integers: bool) -> tuple[ir.Model, dict[str, str]]:
    """Returns a copy cut behind every quantised activation, so that each layer works on inputs given from outside.

    Args:
        model: With quantisers.
        integers: Give the integers of each activation instead of its real values.

    Returns:
        The model, and the name of each output -> the activation. The activation `t` is given as the input `t/cut`.
    """
    copy = model.clone()
    graph = copy.graph
    graph.outputs.clear()
    made: dict[str, str] = {}
    for quantiser in list(quantisers(graph)):
        source = quantiser.node.inputs[0]
        assert source is not None
        if source.producer() is None:
            continue
        entry = _entry(graph, quantiser, source)
        axis = {} if quantiser.axis is None else {"axis": quantiser.axis}
        again = ir.node(QUANTIZE, [entry, *quantiser.node.inputs[1:]], axis)
        again.outputs[0].name = f"{quantiser.tensor}{CUT}/quantised"
        again.outputs[0].type, again.outputs[0].shape = quantiser.node.outputs[0].type, source.shape
        graph.insert_before(graph[0], again)
        for node in quantiser.back:
            node.replace_input_with(0, again.outputs[0])
        _move_up(graph, quantiser, again)
        for use in list(source.uses()):
            if use.node is not quantiser.node:
                use.node.replace_input_with(use.idx, entry)
        result = quantiser.node.outputs[0] if integers else source
        made[result.name or ""] = quantiser.tensor
        graph.outputs.append(result)
    RemoveUnusedNodesPass()(copy)
    return copy, made


def _move_up(graph: ir.Graph, quantiser: Quantiser, again: ir.Node) -> None:
    for node in quantiser.back:
        graph.remove(node)
        graph.insert_after(again, node)


def _entry(graph: ir.Graph, quantiser: Quantiser, source: ir.Value) -> ir.Value:
    shape = None if source.shape is None else ir.Shape([None] * len(source.shape))
    entry = ir.Value(name=f"{quantiser.tensor}{CUT}", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    graph.inputs.append(entry)
    return entry


def producers(graph: ir.Graph) -> dict[str, ir.Node]:
    """Returns the name of every tensor, as it was before quantisers -> the node that makes it."""
    return {plain_name(v): node for node in graph if node.op_type not in (QUANTIZE, DEQUANTIZE) for v in node.outputs}


def real_readers(value: ir.Value) -> list[ir.Node]:
    """Returns the nodes that read `value`, quantisers looked through."""
    found: list[ir.Node] = []
    for use in value.uses():
        if use.node.op_type in (QUANTIZE, DEQUANTIZE):
            found.extend(real_readers(use.node.outputs[0]))
        else:
            found.append(use.node)
    return found


def real_source(value: ir.Value | None) -> ir.Value | None:
    """Returns the activation behind quantisers."""
    while value is not None and (node := value.producer()) is not None and node.op_type in (QUANTIZE, DEQUANTIZE):
        value = node.inputs[0]
    return value


def cut_floats(model: ir.Model, tensors: set[str]) -> ir.Model:
    """Returns a copy of a float model whose layers each work on inputs given from outside, as `t/cut`.

    Args:
        model: Without quantisers.
        tensors: Where to cut; they become the outputs.
    """
    copy = model.clone()
    graph = copy.graph
    graph.outputs.clear()
    for node in list(graph):
        for value in node.outputs:
            if value.name not in tensors or value.dtype != ir.DataType.FLOAT:
                continue
            shape = None if value.shape is None else ir.Shape([None] * len(value.shape))
            entry = ir.Value(name=f"{value.name}{CUT}", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
            graph.inputs.append(entry)
            for use in list(value.uses()):
                use.node.replace_input_with(use.idx, entry)
            graph.outputs.append(value)
    return copy
