"""Bias correction: quantisation shifts the mean of what a layer gives; its bias takes the shift back.

From Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", with means measured on
samples instead of derived from batch norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import TensorPlan
from edgewright.graph.affine import dequantise
from edgewright.graph.initializers import add_initializer
from edgewright.graph.placement import WEIGHTED
from edgewright.graph.quantisers import Quantiser, behind, numbers
from edgewright.graph.weights import MAX_BIAS, tensor_plan

CHANNEL_AXIS: Mapping[str, int] = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
"""Where the output channels of an operator are."""


@dataclass(frozen=True, slots=True, eq=False)
class BiasedLayer:
    """One operator with quantised weights, and where its bias stands.

    Attributes:
        node: In the quantised graph.
        reference: The same in the float graph.
        adder: The Add that carries the bias of a MatMul; None where `node` takes it itself.
    """

    node: ir.Node
    reference: ir.Node
    adder: ir.Node | None = None

    @property
    def axis(self) -> int:
        """The axis of the output channels."""
        return CHANNEL_AXIS[self.node.op_type]


def biased_layers(graph: ir.Graph, reference: ir.Graph) -> tuple[tuple[BiasedLayer, ...], dict[str, str]]:
    """Finds the layers whose bias can be corrected.

    Args:
        graph: With quantisers; nodes named as in `reference`.
        reference: The float graph it was made of.

    Returns:
        The layers in graph order, and node name -> why it is left alone for the others with quantised weights.
    """
    known = {node.name: node for node in reference}
    found: list[BiasedLayer] = []
    left: dict[str, str] = {}
    for node in graph:
        if node.op_type not in WEIGHTED or stored_weights(node) is None:
            continue
        other = known.get(node.name)
        name = node.name or ""
        if other is None or other.op_type != node.op_type or numbers(other.inputs[1]) is None:
            left[name] = "the float model has no such operator"
        elif node.op_type == "Gemm" and not _plain(node):
            left[name] = "its products or its bias are multiplied by a factor"
        elif node.op_type == "MatMul" and _adder(node) is None:
            left[name] = "no bias is added to it, or one of 8 bits"
        else:
            found.append(BiasedLayer(node, other, _adder(node) if node.op_type == "MatMul" else None))
    return tuple(found), left


def stored_weights(node: ir.Node) -> Quantiser | None:
    """Returns the quantiser of the weights of `node`, None where they are not stored as integers."""
    quantiser = behind(node.inputs[1]) if len(node.inputs) > 1 else None
    return quantiser if quantiser is not None and quantiser.integers() is not None else None


def weight_shift(layer: BiasedLayer, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns what the rounding of the weights takes from the mean of every output channel.

    (W - W_quantised) . E[x]: borders, where a convolution also reads padding, count like the rest.

    Args:
        layer: The layer.
        means: Mean of every channel of its input in the float model.
    """
    quantiser = stored_weights(layer.node)
    assert quantiser is not None
    integers, real = quantiser.integers(), numbers(layer.reference.inputs[1])
    assert integers is not None
    assert real is not None
    rounded = dequantise(integers, quantiser.scale, quantiser.zero_point, quantiser.axis)
    return responses(layer.node, real.astype(np.float64) - rounded, means)


def responses(node: ir.Node, weights: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the mean of every output channel of `node` with `weights`, from the means of its input channels."""
    if node.op_type == "Conv":
        groups = len(means) // weights.shape[1]
        taps = weights.sum(axis=tuple(range(2, weights.ndim)))
        split = taps.reshape(groups, -1, weights.shape[1])
        return np.asarray(np.einsum("goi,gi->go", split, means.reshape(groups, -1)).reshape(-1))
    if node.op_type == "ConvTranspose":
        groups = node.attributes.get_int("group", 1) or 1
        taps = weights.sum(axis=tuple(range(2, weights.ndim))) / np.prod(node.attributes.get_ints("strides", (1,)) or 1)
        split = taps.reshape(groups, -1, weights.shape[1])
        return np.asarray(np.einsum("gio,gi->go", split, means.reshape(groups, -1)).reshape(-1))
    turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    return np.asarray(means @ (weights.T if turned else weights))


def add_shift(graph: ir.Graph, layer: BiasedLayer, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds `shift` to the bias of a layer, in place, within the scale it has; makes a bias where there is none.

    Returns:
        What was really added, after rounding.
    """
    place = (layer.adder, _constant_side(layer.adder)) if layer.adder is not None else (layer.node, 2)
    node, index = place
    old = node.inputs[index] if index < len(node.inputs) else None
    if old is None:
        return _make_bias(graph, layer, shift)
    quantiser = behind(old)
    if quantiser is None:
        before = numbers(old)
        assert before is not None
        after = np.asarray(before + np.broadcast_to(shift, before.shape), np.float32)
        _replace(graph, node, index, _own(graph, old, after))
        return np.asarray((after.astype(np.float64) - before).reshape(-1))
    integers = quantiser.integers()
    assert integers is not None
    assert quantiser.scale is not None
    scale = quantiser.scale.astype(np.float64)
    steps = np.rint(shift / scale)
    moved = np.clip(integers.astype(np.float64) + steps, -MAX_BIAS, MAX_BIAS)
    _store(graph, quantiser, moved.astype(np.int32))
    return np.asarray((moved - integers) * scale)


def made_bias(layer: BiasedLayer) -> TensorPlan | None:
    """Returns the plan of the integer bias that `add_shift` made for a layer without one; None for all others."""
    name = f"{layer.node.name}/bias"
    quantiser = behind(layer.node.inputs[2]) if len(layer.node.inputs) > 2 else None
    if quantiser is None or quantiser.scale is None or quantiser.node.name != f"{name}/DequantizeLinear":
        return None
    reason = "made by bias correction, input scale x weight scale"
    return tensor_plan(name, "int32", quantiser.scale, quantiser.zero_point, quantiser.axis, reason)


def _plain(node: ir.Node) -> bool:
    return all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))


def _adder(node: ir.Node) -> ir.Node | None:
    """Returns the Add behind a MatMul, or behind its quantiser, if it adds a bias that can take a shift."""
    value = node.outputs[0]
    for _ in range(3):
        users = {use.node for use in value.uses()}
        user = users.pop() if len(users) == 1 else None
        if user is None or value.is_graph_output():
            return None
        if user.op_type == "Add":
            return user if _constant_side(user) >= 0 else None
        if user.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return None
        value = user.outputs[0]
    return None


def _constant_side(adder: ir.Node) -> int:
    for index, value in enumerate(adder.inputs):
        found = numbers(value)
        if found is None and (quantiser := behind(value)) is not None and quantiser.dtype == "int32":
            found = quantiser.integers()
        if found is not None and found.ndim and found.size == found.shape[-1]:
            return index
    return -1


def _make_bias(graph: ir.Graph, layer: BiasedLayer, shift: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gives `layer` a bias: int32 where both factors have scales and the model's other biases are int32."""
    node = layer.node
    name = f"{node.name}/bias"
    data, weights = behind(node.inputs[0]), stored_weights(node)
    assert weights is not None
    node.resize_inputs(3)
    if data is None or data.scale is None or weights.scale is None or not _integer_biases(graph):
        value = add_initializer(graph, name, shift.astype(np.float32))
        node.replace_input_with(2, value)
        return shift.astype(np.float32).astype(np.float64)
    scale = np.asarray(np.float32(data.scale.reshape(-1)[0]) * weights.scale, np.float32)
    integers = np.clip(np.rint(shift / scale.astype(np.float64)), -MAX_BIAS, MAX_BIAS).astype(np.int32)
    stored, scales = (
        add_initializer(graph, f"{name}/quantised", integers),
        add_initializer(graph, f"{name}/scale", scale),
    )
    dequantiser = ir.node("DequantizeLinear", [stored, scales], {"axis": 0} if scale.ndim else {})
    dequantiser.name, dequantiser.outputs[0].name = f"{name}/DequantizeLinear", f"{name}/dequantised"
    dequantiser.outputs[0].dtype, dequantiser.outputs[0].shape = ir.DataType.FLOAT, stored.shape
    graph.insert_before(node, dequantiser)
    node.replace_input_with(2, dequantiser.outputs[0])
    return np.asarray(integers * scale.astype(np.float64))


def _integer_biases(graph: ir.Graph) -> bool:
    biases = [n.inputs[2] for n in graph if n.op_type in ("Conv", "Gemm", "ConvTranspose") and len(n.inputs) > 2]
    return any((found := behind(value)) is not None and found.dtype == "int32" for value in biases)


def _store(graph: ir.Graph, quantiser: Quantiser, integers: NDArray[Any]) -> None:
    """Replaces the stored integers behind a DequantizeLinear; other users of the same integers keep theirs."""
    _replace(graph, quantiser.node, 0, _own(graph, quantiser.source, integers))


def _own(graph: ir.Graph, old: ir.Value, array: NDArray[Any]) -> ir.Value:
    """Returns a constant for one user: `old` itself where nothing else reads it."""
    if len(old.uses()) == 1 and old.is_initializer():
        old.const_value = ir.tensor(array, name=old.name)
        return old
    return add_initializer(graph, f"{old.name}/corrected", array)


def _replace(graph: ir.Graph, node: ir.Node, index: int, value: ir.Value) -> None:
    if node.inputs[index] is not value:
        node.replace_input_with(index, value)
