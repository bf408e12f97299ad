"""Matrix products with weights in 4 or 8 bits (`MatMulNBits`) in place of float ones; activations stay float."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.blockwise import Blocks, Floats, gptq, round_to_nearest
from edgewright.graph.initializers import add_initializer
from edgewright.graph.placement import has_weights, kept_float
from edgewright.graph.statistics import Feed, Infer

DOMAIN = "com.microsoft"


def products(graph: ir.Graph, keep_float: tuple[str, ...] = ()) -> tuple[ir.Node, ...]:
    """Returns the products with a constant matrix that `MatMulNBits` can stand for."""
    kept = kept_float(graph, keep_float)
    return tuple(node for node in graph if node.name not in kept and _fits(node))


def gather_grams(infer: Infer, feeds: Iterable[Feed], names: tuple[str, ...]) -> dict[str, Floats]:
    """Returns the sum of x x^T, [K, K], of every activation named, over all samples and positions.

    Args:
        infer: Gives these activations.
        feeds: The samples.
        names: Activations, [..., K].
    """
    found: dict[str, Floats] = {}
    for feed in feeds:
        for name, value in {**feed, **infer(feed)}.items():
            if name in names:
                rows = value.reshape(-1, value.shape[-1]).astype(np.float32)
                gram = (rows.T @ rows).astype(np.float64)
                found[name] = found[name] + gram if name in found else gram
    return found


def rewrite(
    model: ir.Model, nodes: tuple[ir.Node, ...], grams: Mapping[str, Floats], bits: int, size: int, compute: int
) -> dict[str, float]:
    """Replaces `nodes` in place.

    Args:
        model: Holds them.
        nodes: Of `products`.
        grams: Of `gather_grams`; an activation without one is rounded to nearest.
        bits: 4 or 8.
        size: Inputs per block.
        compute: `accuracy_level` of `MatMulNBits`: 1 multiplies in float32, 4 in int8.

    Returns:
        Node name -> relative squared error of its weights.
    """
    errors: dict[str, float] = {}
    for node in nodes:
        matrix = _matrix(node)
        gram = grams.get(node.inputs[0].name or "") if node.inputs[0] is not None else None
        blocks = round_to_nearest(matrix, bits, size) if gram is None else gptq(matrix, gram, bits, size)
        difference = blocks.real() - matrix
        errors[node.name or ""] = float((difference**2).sum() / max(float((matrix**2).sum()), 1e-30))
        _replace(model.graph, node, blocks, compute)
    if errors:
        model.opset_imports.setdefault(DOMAIN, 1)
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]
    return errors


def _fits(node: ir.Node) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or node.domain or not has_weights(node):
        return False
    weights, data = node.inputs[1], node.inputs[0]
    assert weights is not None
    if data is None or weights.dtype != ir.DataType.FLOAT or len(weights.shape or ()) != 2:
        return False
    if node.op_type == "MatMul":
        return True
    plain = all(node.attributes.get_float(k, 1.0) == 1.0 for k in ("alpha", "beta"))
    return plain and not node.attributes.get_int("transA", 0)


def _matrix(node: ir.Node) -> NDArray[np.float32]:
    value = node.inputs[1]
    assert value is not None
    assert value.const_value is not None
    numbers = value.const_value.numpy()
    return np.asarray(numbers.T if node.attributes.get_int("transB", 0) else numbers, np.float32)


def _replace(graph: ir.Graph, node: ir.Node, blocks: Blocks, compute: int) -> None:
    inputs, outputs = blocks.integers.shape
    integers, scales, zeros = blocks.packed()
    packed: dict[str, NDArray[Any]] = {"integers": integers, "scales": scales, "zero_points": zeros}
    stored = [add_initializer(graph, f"{node.name}/{name}", numbers) for name, numbers in packed.items()]
    sizes = {"K": inputs, "N": outputs, "bits": blocks.bits, "block_size": blocks.size, "accuracy_level": compute}
    product = ir.node("MatMulNBits", [node.inputs[0], *stored], sizes, domain=DOMAIN, name=f"{node.name}/nbits")
    made, old = [product], node.outputs[0]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        product.outputs[0].name = f"{node.name}/nbits"
        product.outputs[0].dtype, product.outputs[0].shape = ir.DataType.FLOAT, old.shape
        made.append(ir.node("Add", [product.outputs[0], node.inputs[2]], name=f"{node.name}/bias"))
    result = made[-1].outputs[0]
    result.dtype, result.shape = ir.DataType.FLOAT, old.shape
    graph.insert_before(node, made)
    name, old.name = old.name, f"{old.name}/replaced"
    result.name = name
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)
