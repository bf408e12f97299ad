"""Matrix products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewright.graph.bridge.operators.values import Buffer, widened


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
    product = (a.mT if transA else a) @ (b.mT if transB else b)
    product = product if alpha == 1 else (alpha * product).to(a.dtype)
    if c is None or beta == 0:
        return product
    return product + (c if beta == 1 else (beta * c).to(a.dtype))


def einsum(*inputs: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation.replace(" ", ""), *inputs)


def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Buffer | None = None, b_zero_point: Buffer | None = None
) -> Tensor:
    """Exact: sums of products of 8-bit numbers are far below 2^53. The zero point of `a` may differ by row."""
    left, right = a.double(), b.double()
    if a_zero_point is not None:
        point = a_zero_point.double()
        left = left - (point.unsqueeze(-1) if point.dim() == 1 and point.numel() > 1 else point)
    if b_zero_point is not None:
        right = right - b_zero_point.double()
    return torch.matmul(left, right).to(torch.int32)


OPERATORS: dict[str, Callable[..., Any]] = {
    "Det": torch.linalg.det,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
    "MatMulInteger": matmul_integer,
}
