"""Inputs for the run that proves placement: a real sample where there is data, else synthetic values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.runtimes._inputs import check_inputs

Feed = Mapping[str, NDArray[Any]]
GUESSES = (32, 8, 1)
"""Sizes tried for dynamic axes other than the first: image sides and sequence lengths seldom accept any."""


def feeds(specs: Sequence[TensorSpec], data: Path | None) -> Iterator[Feed]:
    """Yields inputs worth trying, the most realistic first.

    Args:
        specs: Inputs of the model.
        data: A `data.json`, or None for synthetic inputs only.

    Raises:
        DataError: The data do not fit the model.
    """
    if data is not None:
        yield _from_data(specs, data)
        return
    dynamic = any(isinstance(axis, str) for spec in specs for axis in spec.shape[1:])
    for guess in GUESSES if dynamic else GUESSES[-1:]:
        yield synthetic(specs, guess)


def _from_data(specs: Sequence[TensorSpec], data: Path) -> Feed:
    from edgewright.data import open_data

    opened = open_data(data, specs)
    first = specs[0].shape[0] if specs and specs[0].shape else 1
    size = first if isinstance(first, int) else 1
    split = "calibration" if "calibration" in opened.splits else opened.splits[0]
    _, _, tensors = next(opened.batches(split, size, limit=size))
    check_inputs(specs, tensors)
    return tensors


def synthetic(specs: Sequence[TensorSpec], guess: int = 1) -> Feed:
    """Returns seeded values for `specs`: a batch of 1, other dynamic axes of size `guess`.

    Integers are 0, which is a valid token and index everywhere; masks are 1.
    """
    rng = np.random.default_rng(0)
    return {spec.name: _values(spec, _sizes(spec, guess), rng) for spec in specs}


def _sizes(spec: TensorSpec, guess: int) -> tuple[int, ...]:
    return tuple(axis if isinstance(axis, int) else 1 if index == 0 else guess for index, axis in enumerate(spec.shape))


def _values(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype in (np.dtype(np.uint8), np.dtype(np.int8)):
        return rng.integers(0, 128, shape).astype(dtype)
    if dtype.kind == "b" or "mask" in spec.name:
        return np.ones(shape, dtype)
    return np.zeros(shape, dtype)
