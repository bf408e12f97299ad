"""What an imported model is compared on: real samples where there are any, seeded random numbers where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Feeds:
    """Inputs of the comparison.

    Attributes:
        batches: Model inputs with the batch axis.
        origin: For a reader: where they come from.
    """

    batches: tuple[Feed, ...]
    origin: str


Grid = tuple[str, float, int]
"""Integer type, scale and zero point."""


def make_feeds(
    data: Path | None, specs: Sequence[TensorSpec], count: int, seed: int, grids: Mapping[str, Grid] | None = None
) -> Feeds:
    """Returns `count` batches for a model with the inputs `specs`.

    Args:
        data: A `data.json`, whose first split (calibration where there is one) is used; None for random inputs.
        specs: Inputs of the model; dynamic axes get size 1.
        count: Number of batches.
        seed: Of the random inputs.
        grids: Float inputs that the model rounds to scaled integers: random ones take every value of these.

    Raises:
        DataError: The data cannot be read.
    """
    real = _real_feeds(data, specs, count) if data is not None else None
    if real is not None and real.batches:
        return real
    rng = np.random.default_rng(seed)
    on = grids or {}
    batches = tuple({spec.name: _random(spec, rng, on.get(spec.name)) for spec in specs} for _ in range(count))
    return Feeds(batches, f"random inputs, seed {seed}")


def _real_feeds(data: Path, specs: Sequence[TensorSpec], count: int) -> Feeds | None:
    from edgewright.data import open_data

    opened = open_data(data, specs)
    if not opened.splits:
        return None
    split = opened.splits[0]
    size = next((spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)), 1)
    found = opened.batches(split, size, limit=count * size)
    full = (tensors for samples, _, tensors in found if len(samples) == size)
    names = [spec.name for spec in specs]
    chosen = tuple({name: tensors[name] for name in names} for tensors in islice(full, count))
    return Feeds(chosen, f"samples of the {split} split")


def _random(spec: TensorSpec, rng: np.random.Generator, grid: Grid | None) -> NDArray[Any]:
    shape = tuple(axis if isinstance(axis, int) else 1 for axis in spec.shape)
    if grid is not None:
        integers, scale, zero = np.iinfo(grid[0]), grid[1], grid[2]
        return ((rng.integers(integers.min, integers.max, shape, endpoint=True) - zero) * scale).astype(np.float32)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return rng.integers(0, 2, shape).astype(dtype)  # 0 and 1 are valid tokens, masks and indices
