"""Batches of any size on a file of fixed sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec
from edgewright.errors import DataError
from edgewright.runtimes._inputs import check_inputs

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Runs batches in blocks of the file's size, the last one filled up by repeating its last sample.

    Attributes:
        inputs: As the artifact declares them: a name as first axis is a free batch.
        outputs: As declared.
        size: The file's batch.
        compute: Runs one block: arrays in the order of `inputs`; returns those of `outputs`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    size: int
    compute: Callable[[Arrays], list[NDArray[Any]]]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Runs one batch.

        Raises:
            DataError: A name, dtype or shape does not fit, or an output has no batch axis and the batch is another
                than the file's.
        """
        check_inputs(self.inputs, inputs)
        arrays = [inputs[spec.name] for spec in self.inputs]
        count = next((len(a) for a, free in zip(arrays, self._free(), strict=True) if free), self.size)
        found = self.compute(arrays) if count == self.size else self._blocks(arrays, count)
        return {spec.name: array for spec, array in zip(self.outputs, found, strict=True)}

    def _free(self) -> list[bool]:
        return [bool(spec.shape) and isinstance(spec.shape[0], str) for spec in self.inputs]

    def _blocks(self, arrays: Arrays, count: int) -> list[NDArray[Any]]:
        fixed = next((s for s in self.outputs if not s.shape or isinstance(s.shape[0], int)), None)
        if fixed is not None:
            raise DataError(
                f'output "{fixed.name}" has no batch axis, so {count} samples cannot be run {self.size} at a time',
                hint=f"feed batches of {self.size}, or compile with batch = {count}",
            )
        parts = [self.compute(self._rows(arrays, at)) for at in range(0, count, self.size)]
        return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]

    def _rows(self, arrays: Arrays, at: int) -> Arrays:
        pairs = zip(arrays, self._free(), strict=True)
        return [self._filled(a[at : at + self.size]) if free else a for a, free in pairs]

    def _filled(self, rows: NDArray[Any]) -> NDArray[Any]:
        lacking = self.size - len(rows)
        return np.concatenate([rows, np.repeat(rows[-1:], lacking, axis=0)]) if lacking else rows
