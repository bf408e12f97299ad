"""Matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from edgewright.graph.bridge.operators.values import widened


@widened
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@widened
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:
    if transB and not transA and alpha == beta == 1 and c is not None and c.dim() == 1 and len(c) == len(b):
        return F.linear(a, b, c)
    product = (a.mT if transA else a) @ (b.mT if transB else b)
    product = product if alpha == 1 else (alpha * product).to(a.dtype)
    if c is None or beta == 0:
        return product
    return product + (c if beta == 1 else (beta * c).to(a.dtype))


def einsum(*inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *inputs)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Det": torch.linalg.det,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
}
