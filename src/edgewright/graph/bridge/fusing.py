"""Chains of operators that PyTorch has as one: faster to train, with the same result up to rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx

from edgewright.graph.bridge.operators import OPERATORS
from edgewright.graph.bridge.paths import tensor_at

_CLOSE = 1e-4
"""Relative difference up to which a stored number is the constant of a formula."""


def fuse_chains(module: fx.GraphModule) -> int:
    """Does what `edgewright.graph.bridge.fuse` says."""
    fusing = _Fusing(module)
    count = 0
    for node in list(module.graph.nodes):
        count += fusing.gelu(node) or fusing.attention(node) or fusing.linear(node)
    if count:
        module.graph.eliminate_dead_code(lambda node: node.op not in ("call_function", "get_attr"))
        module.graph.lint()
        module.recompile()
    return count


def gelu(x: Tensor) -> Tensor:
    """X times the normal distribution function of x (Hendrycks and Gimpel 2016)."""
    return F.gelu(x)


def attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> Tensor:
    """softmax(scale * queries @ keys + bias) @ values, [..., tokens, size]; `keys` stand as [..., size, tokens]."""
    heads = queries.shape[:-2]
    alike = queries.dim() == 4 and heads == keys.shape[:-2] == values.shape[:-2]
    if alike and (bias is None or (bias.dim() <= 4 and bias.dtype == queries.dtype)):
        return F.scaled_dot_product_attention(queries, keys.mT, values, attn_mask=bias, scale=scale)
    scores = queries @ keys * scale
    return torch.softmax(scores if bias is None else scores + bias, -1) @ values


def linear(x: Tensor, weight: Tensor, bias: Tensor, turned: bool) -> Tensor:
    """X @ weight + bias, the weight as [inputs, outputs], or [outputs, inputs] where it is `turned`."""
    return F.linear(x, weight if turned else weight.mT, bias)


class _Fusing:
    """Looks for chains; every node inside one is read by the next alone."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module

    def gelu(self, node: fx.Node) -> bool:
        """0.5 * x * (1 + erf(x / sqrt 2)), its three factors in any order."""
        if not _is(node, "Mul"):
            return False
        factors = list(self._factors(node))
        numbers = [number for factor in factors if (number := self._number(factor)) is not None]
        others = [factor for factor in factors if self._number(factor) is None]
        if len(others) != 2 or len(numbers) != 1 or not math.isclose(numbers[0], 0.5):
            return False
        pairs = (others, others[::-1])
        x = next((first for first, second in pairs if self._normal_share(second, first)), None)
        if x is None:
            return False
        self._replace(node, gelu, (x,))
        return True

    def attention(self, node: fx.Node) -> bool:
        """Two matrix products with a softmax between them."""
        if not _is(node, "MatMul"):
            return False
        shares, values = node.args
        if not _is(shares, "Softmax") or not _alone(shares) or shares.kwargs.get("axis", -1) not in (-1, 3):
            return False
        if shares.kwargs["opset"] < 13:
            return False
        scores, bias = self._biased(shares.args[0])
        product, scale = self._scaled(scores)
        if not _is(product, "MatMul") or not _alone(product):
            return False
        (queries, first), (keys, second) = (self._scaled(argument) for argument in product.args)
        self._replace(node, attention, (queries, keys, values, bias, scale * first * second))
        return True

    def linear(self, node: fx.Node) -> bool:
        """A product with a stored matrix, and a stored vector added to it."""
        if not _is(node, "Add"):
            return False
        for product, bias in (node.args, node.args[::-1]):
            vector = self._stored(bias, 1)
            if vector is None or not _is(product, "MatMul") or not _alone(product):
                continue
            x, weight = product.args
            turned = _is(weight, "Transpose") and _alone(weight) and weight.kwargs.get("perm") in (None, [1, 0])
            source = weight.args[0] if turned else weight
            matrix = self._stored(source, 2)
            if matrix is not None and matrix.shape[0 if turned else 1] == len(vector):
                self._replace(node, linear, (x, source, bias, turned))
                return True
        return False

    def _stored(self, node: Any, rank: int) -> Tensor | None:
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        tensor = tensor_at(self.module, str(node.target))
        return tensor if tensor.dim() == rank and tensor.is_floating_point() else None

    def _factors(self, node: Any) -> Iterator[Any]:
        for argument in node.args:
            if _is(argument, "Mul") and _alone(argument) and self._number(argument) is None:
                yield from argument.args
            else:
                yield argument

    def _normal_share(self, node: Any, x: Any) -> bool:
        """Tells whether `node` is 1 + erf(x / sqrt 2)."""
        erf, one = self._with_number(node)
        if not _is(node, "Add") or one != 1.0 or not _alone(node) or not _is(erf, "Erf") or not _alone(erf):
            return False
        argument = erf.args[0]
        inner, number = self._with_number(argument)
        if inner is not x or number is None or not _alone(argument):
            return False
        wanted = math.sqrt(2) if _is(argument, "Div") else math.sqrt(0.5)
        return (_is(argument, "Div") or _is(argument, "Mul")) and math.isclose(number, wanted, rel_tol=_CLOSE)

    def _biased(self, node: Any) -> tuple[Any, Any]:
        """Returns the scores and what is added to them."""
        if _is(node, "Add") and _alone(node):
            for scores, bias in (node.args, reversed(node.args)):
                if _is(self._scaled(scores)[0], "MatMul") and isinstance(bias, fx.Node):
                    return scores, bias
        return node, None

    def _scaled(self, node: Any) -> tuple[Any, float]:
        inner, number = self._with_number(node)
        if number is None or not _alone(node) or not (_is(node, "Mul") or _is(node, "Div")):
            return node, 1.0
        if _is(node, "Div") and node.args[0] is not inner:
            return node, 1.0
        return inner, 1 / number if _is(node, "Div") else number

    def _with_number(self, node: Any) -> tuple[Any, float | None]:
        """Returns the other argument of an operator one of whose two is a fixed number, and that number."""
        arguments: Sequence[Any] = node.args if isinstance(node, fx.Node) and node.op == "call_function" else ()
        if len(arguments) == 2:
            for other, number in (arguments, arguments[::-1]):
                if (found := self._number(number)) is not None:
                    return other, found
        return node, None

    def _number(self, node: Any) -> float | None:
        if isinstance(node, (int, float)):
            return float(node)
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        tensor = tensor_at(self.module, str(node.target))
        return float(tensor) if tensor.numel() == 1 and not tensor.requires_grad else None

    def _replace(self, node: fx.Node, function: Any, args: tuple[Any, ...]) -> None:
        with self.module.graph.inserting_before(node):
            new = self.module.graph.call_function(function, args)
        new.meta.update(node.meta)
        node.replace_all_uses_with(new)
        self.module.graph.erase_node(node)


def _is(node: Any, operator: str) -> TypeGuard[Any]:
    return isinstance(node, fx.Node) and node.op == "call_function" and node.target is OPERATORS[operator]


def _alone(node: Any) -> TypeGuard[Any]:
    """Tells whether one node alone reads `node`."""
    return isinstance(node, fx.Node) and len(node.users) == 1
