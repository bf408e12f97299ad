"""What tf2onnx leaves behind: an operator that ONNX lacks, and scales that belong into the weights before them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_SHAPING = ("Expand", "Unsqueeze", "Squeeze", "Reshape", "Identity", "Cast", "Transpose", "Slice")


def expand_erfc(graph: ir.Graph) -> int:
    """Writes `Erfc(x)` as `1 - Erf(x)`, and `Erfc(-x * c)` as `1 + Erf(x * c)`, which runtimes know as part of GELU.

    Returns:
        How many there were.
    """
    found = [node for node in graph if node.op_type == "Erfc"]
    for index, node in enumerate(found):
        value, negated = _without_sign(node.inputs[0])
        new: list[ir.Node] = []
        if negated is not None:
            new.append(ir.node("Mul", [value, negated], name=f"erfc_scale_{index}"))
            value = new[0].outputs[0]
        new.append(ir.node("Erf", [value], name=f"erfc_erf_{index}"))
        one = _initialiser(graph, f"erfc_one_{index}", np.ones((), np.float32))
        pair = [one, new[-1].outputs[0]]
        new.append(ir.node("Sub" if negated is None else "Add", pair, name=f"erfc_{index}"))
        ir.convenience.replace_nodes_and_values(graph, node, [node], new, node.outputs, new[-1].outputs)
    return len(found)


def _without_sign(value: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """Returns x and c where `value` is `Mul(Neg(x), c)`, else the value itself and None."""
    product = value.producer() if value is not None else None
    if product is None or product.op_type != "Mul" or product.inputs[0] is None:
        return value, None
    sign = product.inputs[0].producer()
    if sign is None or sign.op_type != "Neg":
        return value, None
    return sign.inputs[0], product.inputs[1]


def fold_scales(graph: ir.Graph) -> int:
    """Folds Mul and Add by a constant per channel into the convolution before them: batch norm, as Keras computes it.

    Returns:
        How many operators went into weights.
    """
    folded = 0
    for conv in [node for node in graph if node.op_type == "Conv"]:
        while _fold_next(graph, conv):
            folded += 1
    if folded:
        for name in [n for n, value in graph.initializers.items() if not value.uses() and not value.is_graph_output()]:
            del graph.initializers[name]
    return folded


def drop_zero_states(graph: ir.Graph) -> int:
    """Leaves out initial states of LSTM and GRU that are zero for any batch: ONNX means the same by none.

    Returns:
        How many there were.
    """
    found = [
        (node, index)
        for node in graph
        if node.op_type in ("LSTM", "GRU", "RNN")
        for index in (5, 6)
        if index < len(node.inputs) and _is_zero(node.inputs[index])
    ]
    for node, index in found:
        node.replace_input_with(index, None)
    return len(found)


def _is_zero(value: ir.Value | None) -> bool:
    """Follows what only changes the shape."""
    array = _constant(value)
    if value is None or array is not None:
        return array is not None and not np.any(array)
    producer = value.producer()
    if producer is None:
        return False
    if producer.op_type == "ConstantOfShape":
        fill = producer.attributes.get("value")
        return fill is None or not np.any(fill.as_tensor().numpy())
    if producer.op_type == "Concat":
        return all(_is_zero(one) for one in producer.inputs)
    return producer.op_type in _SHAPING and _is_zero(producer.inputs[0])


def _fold_next(graph: ir.Graph, conv: ir.Node) -> bool:
    output = conv.outputs[0]
    users = output.uses()
    if len(users) != 1 or output.is_graph_output():
        return False
    node = next(iter(users)).node
    weights = _constant(conv.inputs[1])
    if weights is None or node.op_type not in ("Mul", "Add") or node.outputs[0].is_graph_output():
        return False
    factor = _per_channel(_constant(node.inputs[0 if node.inputs[1] is output else 1]), weights)
    bias = _bias(conv, weights)
    if factor is None or bias is None:
        return False
    if node.op_type == "Mul":
        wide = factor.reshape(-1, *[1] * (weights.ndim - 1))
        _set(graph, conv, 1, weights * wide, "weight")
        bias = bias * factor
    else:
        bias = bias + factor
    _set(graph, conv, 2, bias, "bias")
    ir.convenience.replace_all_uses_with(node.outputs[0], output)
    graph.remove(node, safe=True)
    return True


def _per_channel(value: NDArray[np.float32] | None, weights: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Returns one number per output channel where `value` is that, spread over [1, C, 1, ...]."""
    channels, rank = weights.shape[0], weights.ndim
    if value is None or value.ndim > rank or value.dtype != weights.dtype:
        return None
    shape = (*[1] * (rank - value.ndim), *value.shape)
    if value.size == 1:
        return np.full(channels, value.reshape(()), weights.dtype)
    return value.reshape(channels) if shape == (1, channels, *[1] * (rank - 2)) else None


def _bias(conv: ir.Node, weights: NDArray[np.float32]) -> NDArray[np.float32] | None:
    if len(conv.inputs) < 3 or conv.inputs[2] is None:
        return np.zeros(weights.shape[0], weights.dtype)
    return _constant(conv.inputs[2])


def _set(graph: ir.Graph, conv: ir.Node, index: int, array: NDArray[np.float32], role: str) -> None:
    if len(conv.inputs) <= index:
        conv.resize_inputs(index + 1)
    base = f"{conv.name or conv.outputs[0].name}_{role}"
    name, count = base, 0
    while name in graph.initializers:
        name, count = f"{base}_{count}", count + 1
    conv.replace_input_with(index, _initialiser(graph, name, array))


def _initialiser(graph: ir.Graph, name: str, array: NDArray[np.float32]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def _constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return np.asarray(value.const_value.numpy())
