"""Several samples in one run: which go together, how they are filled up, and what of the result belongs to each.

Samples of one shape are stacked. Samples of different lengths are filled up to the longest of their group, where the
pipeline says with what (`Preprocess.padding`) and the model looks away from filling; otherwise only equal shapes share
a run. Groups are cut from the samples sorted by length, so that little is filled up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Prepared
from edgewright.core.tensors import TensorSpec
from edgewright.errors import UsageError


@dataclass(frozen=True, slots=True)
class Joining:
    """How samples of one artifact share a run.

    Attributes:
        inputs: Of the artifact, with the batch axis.
        outputs: Of the artifact, with the batch axis.
        padding: Input -> what fills it up; inputs without an entry cannot be filled.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    padding: Mapping[str, float] = field(default_factory=dict)

    @property
    def fills(self) -> bool:
        """Whether samples of different lengths can share a run, and be told apart again behind it."""
        free = [spec for spec in self.inputs if _names(spec)]
        known = {name for spec in free for name in _names(spec)}
        return (
            bool(free)
            and all(spec.name in self.padding for spec in free)
            and all(name in known for spec in self.outputs for name in _names(spec))
        )

    def groups(self, samples: Sequence[Prepared], size: int) -> list[list[int]]:
        """Returns the positions of samples that share a run, at most `size` in each, shortest first."""
        shapes = [tuple(sample.tensors[spec.name].shape for spec in self.inputs) for sample in samples]
        order = sorted(range(len(samples)), key=lambda i: (sum(map(sum, shapes[i])), shapes[i], i))
        found: list[list[int]] = []
        for i in order:
            last = found[-1] if found else []
            if last and len(last) < size and (self.fills or shapes[last[0]] == shapes[i]):
                last.append(i)
            else:
                found.append([i])
        return found

    def stack(self, samples: Sequence[Prepared], size: int) -> dict[str, NDArray[Any]]:
        """Returns one batch, the last sample repeated where the artifact insists on more than there are.

        Args:
            samples: Of one group.
            size: The batch that the artifact insists on; 0 where it takes any.
        """
        missing = max(size - len(samples), 0)
        rows = [*samples, *[samples[-1]] * missing]
        return {spec.name: self._joined(spec.name, [row.tensors[spec.name] for row in rows]) for spec in self.inputs}

    def row(self, outputs: Mapping[str, NDArray[Any]], position: int, sample: Prepared) -> dict[str, NDArray[Any]]:
        """Returns what the run gave for one sample, without what belongs to the filling."""
        own = {
            name: sample.tensors[spec.name].shape[axis - 1]
            for spec in self.inputs
            for axis, name in enumerate(spec.shape)
            if axis and isinstance(name, str)
        }
        axes = {spec.name: spec.shape[1:] for spec in self.outputs}
        return {name: _cut(array[position], axes.get(name, ()), own) for name, array in outputs.items()}

    def _joined(self, name: str, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        first = arrays[0]
        if all(array.shape == first.shape for array in arrays):
            return np.stack(arrays)
        longest = tuple(max(sizes) for sizes in zip(*(array.shape for array in arrays), strict=True))
        joined = np.full((len(arrays), *longest), self.padding[name], first.dtype)
        for row, array in zip(joined, arrays, strict=True):
            row[tuple(slice(size) for size in array.shape)] = array
        return joined


def require_batch(inputs: Sequence[TensorSpec], size: int) -> int:
    """Checks that an artifact takes batches of `size`.

    Returns:
        The batch it insists on, 0 where it takes any.

    Raises:
        UsageError: It was compiled for another one.
    """
    fixed = [spec for spec in inputs if spec.shape and isinstance(spec.shape[0], int)]
    wrong = next((spec for spec in fixed if spec.shape[0] != size), None)
    if wrong is not None:
        raise UsageError(
            f"the model is compiled for batches of {wrong.shape[0]} ({wrong}), got {size}",
            hint=f'leave the batch out, give {wrong.shape[0]}, or export the model with a free first axis ("batch")',
        )
    return size if fixed else 0


def _names(spec: TensorSpec) -> tuple[str, ...]:
    return tuple(name for name in spec.shape[1:] if isinstance(name, str))


def _cut(array: NDArray[Any], axes: Sequence[int | str], own: Mapping[str, int]) -> NDArray[Any]:
    if len(axes) != array.ndim:
        return array
    kept = tuple(slice(own[axis]) if isinstance(axis, str) and axis in own else slice(None) for axis in axes)
    return array[kept]
