"""Attention that looks away from padding, masked in each of the ways exporters write it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TOKENS, WIDTH, CLASSES = 12, 16, 10
MASKS = ("added", "subtracted", "where", "infinite", "lowest")
"""-10000 added, 10000 subtracted, and Where with -10000, minus infinity and the smallest float32."""
_HIDDEN = {"where": -1e4, "infinite": -np.inf, "lowest": np.finfo(np.float32).min}


def masked_attention(mask: str) -> onnx.ModelProto:
    """Returns x [1, tokens, width], real [1, tokens] -> y [1, classes]; opset 17.

    One head of attention, the maximum over the real tokens beside their mean, and a linear layer.
    """
    rng = np.random.default_rng(5)
    weights: dict[str, NDArray[np.generic]] = {
        name: np.asarray(rng.standard_normal((WIDTH, WIDTH)) * 0.25, np.float32) for name in ("wq", "wk", "wv")
    }
    weights["head"] = np.asarray(rng.standard_normal((2 * WIDTH, CLASSES)) * 0.3, np.float32)
    for name, number in (("scale", 0.25), ("one", 1.0), ("huge", 1e4), ("hidden", _HIDDEN.get(mask, 0.0))):
        weights[name] = np.asarray([number], np.float32)
    for axis in (1, 2):
        weights[f"axis{axis}"] = np.asarray([axis], np.int64)
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{each}"], [each]) for each in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scores"]),
        *_mask(mask, "scores", "axis1", "hidden_scores"),
        helper.make_node("Softmax", ["hidden_scores"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "v"], ["mixed"]),
        *_mask(mask, "mixed", "axis2", "hidden_tokens"),
        helper.make_node("ReduceMax", ["hidden_tokens"], ["peak"], axes=[1], keepdims=0),
        helper.make_node("ReduceMean", ["mixed"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Concat", ["peak", "mean"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "head"], ["y"]),
    ]
    graph = helper.make_graph(
        [node for i, node in enumerate(nodes) if node.output[0] not in {n.output[0] for n in nodes[:i]}],
        "attention",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, TOKENS, WIDTH]),
            helper.make_tensor_value_info("real", TensorProto.FLOAT, [1, TOKENS]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def feeds(count: int) -> list[dict[str, NDArray[np.float32]]]:
    """Returns reproducible inputs, 3 to 12 tokens of each real."""
    rng = np.random.default_rng(6)
    rows = [np.arange(TOKENS) < rng.integers(3, TOKENS + 1) for _ in range(count)]
    numbers = rng.standard_normal((count, 1, TOKENS, WIDTH)).astype(np.float32)
    return [{"x": x, "real": row[None].astype(np.float32)} for x, row in zip(numbers, rows, strict=True)]


def _mask(mask: str, source: str, axis: str, result: str) -> list[onnx.NodeProto]:
    """Hides the columns (`axis1`) or rows (`axis2`) of `source` that belong to padding."""
    if mask in _HIDDEN:
        return [
            helper.make_node("Cast", ["real"], ["choice"], to=TensorProto.BOOL),
            helper.make_node("Unsqueeze", ["choice", axis], [f"choice_{axis}"]),
            helper.make_node("Where", [f"choice_{axis}", source, "hidden"], [result]),
        ]
    subtracted = mask == "subtracted"
    return [
        helper.make_node("Sub", ["one", "real"] if subtracted else ["real", "one"], ["padding"]),
        helper.make_node("Mul", ["padding", "huge"], ["bias"]),
        helper.make_node("Unsqueeze", ["bias", axis], [f"bias_{axis}"]),
        helper.make_node("Sub" if subtracted else "Add", [source, f"bias_{axis}"], [result]),
    ]
