"""The range of weights: their extremes, or the narrower range that leaves the least squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.graph.affine import Grid, channel_range, parameters

RULES = ("minmax", "mse")
COARSE = tuple(np.linspace(1.0, 0.2, 33))
FINE = (-0.02, -0.015, -0.01, -0.005, 0.005, 0.01, 0.015, 0.02)


@dataclass(frozen=True, slots=True)
class _Search:
    """Rows of weights and the grid they are rounded to.

    Attributes:
        rows: Weights, [channels, numbers of each]; one row for per-tensor.
        low: Smallest of each row.
        high: Largest of each row.
        grid: Integers.
        symmetric: Zero point fixed.
        least: Smallest scale allowed, one per row.
    """

    rows: NDArray[np.float32]
    low: NDArray[Any]
    high: NDArray[Any]
    grid: Grid
    symmetric: bool
    least: NDArray[Any]

    def parameters(self, below: NDArray[Any], above: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns scale and zero point of the range, narrowed by a factor per row on each side."""
        scale, zero = parameters(self.low * below, self.high * above, self.grid, self.symmetric)
        widened = np.maximum(scale, self.least).astype(np.float32)
        if not self.symmetric and np.any(widened > scale):
            shifted = np.rint(self.grid.low - np.minimum(self.low * below, 0) / widened.astype(np.float64))
            zero = np.where(widened > scale, np.clip(shifted, self.grid.low, self.grid.high), zero).astype(np.int64)
        return widened, zero

    def error(self, below: NDArray[Any], above: NDArray[Any]) -> NDArray[Any]:
        """Returns the sum of squared rounding errors of each row."""
        scale, zero = (each[:, None] for each in self.parameters(below, above))
        integers = np.rint(self.rows / scale)
        bounds = (self.grid.low - zero).astype(np.float32), (self.grid.high - zero).astype(np.float32)
        difference = np.clip(integers, *bounds) * scale - self.rows
        return np.asarray(np.einsum("ij,ij->i", difference, difference, dtype=np.float64))


def weight_parameters(
    weights: NDArray[Any],
    axis: int | None,
    grid: Grid,
    symmetric: bool,
    rule: str = "minmax",
    least: NDArray[Any] | float = 0.0,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns scales (float32) and zero points (int64) of weights.

    `mse` looks for the range with the least mean squared error (OMSE, Choukroun et al. 2019, "Low-bit Quantization of
    Neural Networks for Efficient Inference"), here for every channel and, on grids that are not symmetric, on either
    side. The extremes are the first candidate: the error is never larger than theirs.

    Args:
        weights: Of any shape.
        axis: Channel axis; None for one scale.
        grid: Integers they may take.
        symmetric: Zero point fixed at the middle of the grid.
        rule: One of `RULES`.
        least: Smallest scale allowed: one, or one per channel.

    Returns:
        Scalars for one scale, else one value per channel.
    """
    low, high = channel_range(weights, axis)
    rows = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    floor = np.broadcast_to(np.asarray(least, np.float64), (len(rows),))
    search = _Search(rows.astype(np.float32), np.atleast_1d(low), np.atleast_1d(high), grid, symmetric, floor)
    below = above = np.ones(len(rows))
    if rule == "mse":
        below, above = _narrowed(search)
    scale, zero = search.parameters(below, above)
    return (scale, zero) if axis is not None else (scale.reshape(()), zero.reshape(()))


def _narrowed(search: _Search) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the best factor of every row for the lower and the upper end."""
    ones = np.ones(len(search.rows))
    best, error = ones, search.error(ones, ones)
    for ratio in COARSE[1:]:
        best, error = _better(best, error, ones * ratio, search.error(ones * ratio, ones * ratio))
    for step in FINE:
        tried = np.minimum(best + step, 1.0)
        best, error = _better(best, error, tried, search.error(tried, tried))
    below, above = best, best
    if not search.symmetric:
        for step in (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2, -0.02, 0.02):
            tried = np.clip(below + step, 0.05, 1.0)
            below, error = _better(below, error, tried, search.error(tried, above))
            tried = np.clip(above + step, 0.05, 1.0)
            above, error = _better(above, error, tried, search.error(below, tried))
    return below, above


def _better(
    best: NDArray[Any], error: NDArray[Any], tried: NDArray[Any], found: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    wins = found < error
    return np.where(wins, tried, best), np.where(wins, found, error)
