"""Checks what a caller feeds, cheaply enough to stay in the timed path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.errors import DataError


def check_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> None:
    """Compares names, dtypes and shapes with the declaration; an axis name must mean one size everywhere.

    Raises:
        DataError: The first thing that does not fit.
    """
    if len(inputs) != len(specs) or any(spec.name not in inputs for spec in specs):
        _refuse_names(specs, inputs)
    axes: dict[str, int] = {}
    for spec in specs:
        array = inputs[spec.name]
        if not isinstance(array, np.ndarray) or array.dtype.name != spec.dtype:
            _refuse_dtype(spec, array)
        if not _fits(spec.shape, array.shape, axes):
            _refuse_shape(spec, array, axes)


def _fits(expected: tuple[int | str, ...], found: tuple[int, ...], axes: dict[str, int]) -> bool:
    if len(expected) != len(found):
        return False
    for want, size in zip(expected, found, strict=True):
        if isinstance(want, str):
            if want and axes.setdefault(want, size) != size:
                return False
        elif want != size:
            return False
    return True


def _refuse_names(specs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> None:
    expected = ", ".join(str(spec) for spec in specs)
    found = ", ".join(sorted(inputs)) or "nothing"
    raise DataError(f"inputs of the model: expected {expected}; got {found}", hint="feed exactly the declared names")


def _refuse_dtype(spec: TensorSpec, array: Any) -> None:
    found = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
    raise DataError(
        f'input "{spec.name}": expected {spec.dtype}, got {found}',
        hint=f'convert it, e.g. with {{op = "cast", dtype = "{spec.dtype}"}} at the end of [[preprocess]]',
    )


def _refuse_shape(spec: TensorSpec, array: NDArray[Any], axes: Mapping[str, int]) -> None:
    known = ", ".join(f"{name} = {size}" for name, size in axes.items())
    raise DataError(
        f'input "{spec.name}": expected shape [{", ".join(map(str, spec.shape))}], got {list(array.shape)}'
        + (f" where {known}" if known else ""),
        hint="resize or reshape it in [[preprocess]], or change [search] batch",
    )
