"""The same sample for both sides: by name or position, in each side's layout and type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.errors import DataError
from edgewright.measure.layers.layouts import Layout, layouts
from edgewright.measure.layers.sides import Feed, Integers, Side


@dataclass(frozen=True, slots=True)
class Feeding:
    """From the reference's inputs to the candidate's.

    Attributes:
        inputs: Input of the candidate -> input of the reference.
        layouts: Input of the candidate -> from its layout to the reference's.
        specs: Input of the candidate -> its declaration.
        stored: Input of the candidate -> how it is stored, where it takes scaled integers.
        reference_stored: The same for inputs of the reference.
    """

    inputs: Mapping[str, str]
    layouts: Mapping[str, Layout]
    specs: Mapping[str, TensorSpec]
    stored: Mapping[str, Integers]
    reference_stored: Mapping[str, Integers]

    def __call__(self, feed: Feed) -> dict[str, NDArray[Any]]:
        """Returns the candidate's inputs."""
        return {name: self._one(name, feed[source], source) for name, source in self.inputs.items()}

    def _one(self, name: str, values: NDArray[Any], source: str) -> NDArray[Any]:
        spec = self.specs[name]
        real = self.reference_stored[source].real(values) if source in self.reference_stored else values
        shape = _sizes(spec, real.shape)
        moved = self.layouts[name].to_candidate(real, shape)
        stored = self.stored.get(name)
        made = stored.stored(moved.astype(np.float32)) if stored is not None else moved
        return np.ascontiguousarray(made, dtype=spec.dtype)


def feeding(reference: Side, candidate: Side, feed: Feed) -> Feeding:
    """Finds out how the candidate is fed with the reference's inputs.

    Raises:
        DataError: Number or shapes of the inputs do not fit.
    """
    ours, theirs = [s.name for s in reference.inputs], [s.name for s in candidate.inputs]
    if len(ours) != len(theirs):
        raise DataError(
            f"the reference takes {len(ours)} inputs ({', '.join(ours)}), the candidate {len(theirs)}",
            hint="compare models that take the same inputs",
        )
    inputs = {n: n for n in theirs} if set(ours) == set(theirs) else dict(zip(theirs, ours, strict=True))
    specs = {spec.name: spec for spec in candidate.inputs}
    found = {name: _layout(specs[name], feed[source]) for name, source in inputs.items()}
    return Feeding(inputs, found, specs, candidate.stored_inputs, reference.stored_inputs)


def _layout(spec: TensorSpec, values: NDArray[Any]) -> Layout:
    """Channels move where only that fits; where several layouts fit, the plainest counts."""
    chosen = next(layouts(values.shape, _sizes(spec, values.shape)), None)
    if chosen is None:
        raise DataError(
            f"input {spec} of the candidate cannot take the reference's {list(values.shape)}",
            hint="compare models for the same input size",
        )
    return chosen


def _sizes(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape to feed: open axes take the reference's size in the same place, or the one that is left."""
    if all(isinstance(size, int) for size in spec.shape):
        return tuple(int(size) for size in spec.shape)
    if len(spec.shape) == len(shape) and all(
        not isinstance(want, int) or want == have for want, have in zip(spec.shape, shape, strict=True)
    ):
        return shape
    left = list(shape)
    for size in spec.shape:
        if isinstance(size, int) and size in left:
            left.remove(size)
    return tuple(size if isinstance(size, int) else left.pop(0) if left else 1 for size in spec.shape)
