"""Chains that PyTorch has as one operator: the same results and gradients, and names that are needed stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch import fx

from edgewright.graph.bridge import fuse, to_torch
from edgewright.graph.bridge.fusing import attention, gelu, linear

value = helper.make_tensor_value_info
RNG = np.random.default_rng(0)


def convert(
    nodes: list[Any], shapes: dict[str, tuple[int, ...]], numbers: dict[str, Any], output: str
) -> fx.GraphModule:
    stored = [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in numbers.items()]
    inputs = [value(name, 1, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "g", inputs, [value(output, 1, None)], stored)
    return to_torch(ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])))


def gelu_chain(first: str, number: float, order: int) -> fx.GraphModule:
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["b"]),
        helper.make_node(first, ["b", "root"], ["r"]),
        helper.make_node("Erf", ["r"], ["e"]),
        helper.make_node("Add", ["e", "one"] if order else ["one", "e"], ["s"]),
    ]
    if order == 2:
        nodes += [helper.make_node("Mul", ["b", "half"], ["h"]), helper.make_node("Mul", ["h", "s"], ["y"])]
    else:
        nodes += [helper.make_node("Mul", ["s", "b"], ["m"]), helper.make_node("Mul", ["m", "half"], ["y"])]
    numbers = {"root": number, "one": 1, "half": 0.5, "bias": RNG.standard_normal(4)}
    return convert(nodes, {"x": (3, 4)}, numbers, "y")


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize(("first", "number"), [("Div", 2**0.5), ("Mul", 0.5**0.5)])
def test_gelu_in_every_order_is_one_operator(first: str, number: float, order: int) -> None:
    plain, fused = gelu_chain(first, number, order), gelu_chain(first, number, order)
    fused.load_state_dict(plain.state_dict())
    assert fuse(fused) == 1
    assert targets(fused) == [gelu]
    same(plain, fused, torch.randn(3, 4))


@pytest.mark.parametrize(("first", "number"), [("Div", 1.5), ("Mul", 1.0)])
def test_what_only_looks_like_gelu_stays(first: str, number: float) -> None:
    module = gelu_chain(first, number, 1)
    assert fuse(module) == 0


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("scaled", ["none", "scores", "both"])
def test_attention_is_one_operator(biased: bool, scaled: str) -> None:
    def build() -> fx.GraphModule:
        nodes = [helper.make_node("Transpose", ["k"], ["t"], perm=[0, 1, 3, 2])]
        queries, keys = "q", "t"
        if scaled == "both":
            nodes += [helper.make_node("Mul", ["q", "root"], ["qs"]), helper.make_node("Mul", ["t", "root"], ["ks"])]
            queries, keys = "qs", "ks"
        nodes.append(helper.make_node("MatMul", [queries, keys], ["m"]))
        scores = "m"
        if scaled == "scores":
            nodes.append(helper.make_node("Div", ["m", "eight"], ["d"]))
            scores = "d"
        if biased:
            nodes.append(helper.make_node("Add", [scores, "mask"], ["a"]))
        nodes.append(helper.make_node("Softmax", ["a" if biased else scores], ["p"], axis=-1))
        nodes.append(helper.make_node("MatMul", ["p", "v"], ["y"]))
        shapes = dict.fromkeys("qkv", (2, 3, 5, 4)) | ({"mask": (2, 1, 1, 5)} if biased else {})
        return convert(nodes, shapes, {"root": 0.6, "eight": 8.0}, "y")

    plain, fused = build(), build()
    assert fuse(fused) == 1
    assert targets(fused) == [attention]
    masks = [torch.randn(2, 1, 1, 5)] if biased else []
    same(plain, fused, *(torch.randn(2, 3, 5, 4) for _ in range(3)), *masks)


def test_attention_of_another_rank_is_computed_as_it_stands() -> None:
    q, k, v = torch.randn(2, 5, 4), torch.randn(2, 4, 5), torch.randn(2, 5, 4)
    expected = torch.softmax(q @ k * 0.5, -1) @ v
    torch.testing.assert_close(attention(q, k, v, None, 0.5), expected)
    wide = torch.randn(1, 3, 4, 5)
    expected = torch.softmax(torch.randn(2, 3, 5, 4).fill_(0.1) @ wide + 1.0, -1) @ torch.ones(2, 3, 5, 4)
    torch.testing.assert_close(
        attention(torch.full((2, 3, 5, 4), 0.1), wide, torch.ones(2, 3, 5, 4), torch.ones(1), 1.0), expected
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_product_with_a_bias_is_one_operator(turned: bool) -> None:
    def build() -> fx.GraphModule:
        nodes = [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])] if turned else []
        nodes += [helper.make_node("MatMul", ["x", "t" if turned else "w"], ["m"]),
                  helper.make_node("Add", ["bias", "m"], ["y"])]  # fmt: skip
        weight = np.linspace(-1, 1, 12).reshape((3, 4) if turned else (4, 3))
        return convert(nodes, {"x": (2, 5, 4)}, {"w": weight, "bias": [1, 2, 3]}, "y")

    plain, fused = build(), build()
    assert fuse(fused) == 1
    assert targets(fused) == [linear]
    assert set(dict(fused.named_parameters())) == {"w", "bias"}
    same(plain, fused, torch.randn(2, 5, 4))


def test_a_bias_that_only_broadcasts_stays() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "bias"], ["y"])]
    module = convert(nodes, {"x": (2, 4)}, {"w": np.ones((4, 3)), "bias": [1]}, "y")
    assert fuse(module) == 0


def test_a_tensor_that_is_asked_for_stays() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "bias"], ["y"]),
    ]
    stored = [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (4, 3)), ("bias", (3,)))]
    graph = helper.make_graph(nodes, "g", [value("x", 1, [2, 4])], [value("y", 1, None)], stored)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    module = to_torch(model, outputs=["y", "m"])
    assert fuse(module) == 0
    assert module(torch.ones(2, 4))[1].tolist() == [[4, 4, 4], [4, 4, 4]]


def targets(module: fx.GraphModule) -> list[Callable[..., Any]]:
    known = (gelu, attention, linear)
    return [node.target for node in module.graph.nodes if node.target in known]


def same(plain: fx.GraphModule, fused: fx.GraphModule, *inputs: torch.Tensor) -> None:
    """The outputs are equal up to rounding, and so is every gradient."""
    found = []
    for module in (plain, fused):
        given = [x.clone().requires_grad_() for x in inputs]
        (y,) = module(*given)
        (y * torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape)).sum().backward()
        grads = [p.grad for _, p in sorted(module.named_parameters())]
        found.append([y.detach(), *(x.grad for x in given), *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
