"""Runs a .tflite file of an artifact: the tensors that the artifact declares outside, the file's inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt
from edgewright.runtimes._blocks import Blocks
from edgewright.runtimes._litert_apart import Apart
from edgewright.runtimes._litert_io import SAME, Border, read_borders


class FileRunner(Protocol):
    """An interpreter of .tflite files, LiteRT's or that of microcontrollers."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The file's own."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The file's own."""

    def compute(self, arrays: Sequence[NDArray[Any]], borders: Sequence[Border]) -> list[NDArray[Any]]:
        """Runs the file once; see `edgewright.runtimes.litert.LiteRtRunner.compute`."""


class ArtifactRunner:
    """An artifact: declared tensors outside, the file's inside.

    A file has fixed sizes. Where the artifact declares a free batch axis, a batch of another size than the file's is
    run in blocks of the file's, the last one filled up by repeating its last sample.

    Args:
        artifact: Its description.
        interpreter: Of its file.
        where: Path of the file, for errors.
        apart: Runs every operator on its own, on the clock; None where times are not asked for or not known.

    Raises:
        Corrupt: Description and file do not agree.
    """

    def __init__(self, artifact: Artifact, interpreter: FileRunner, where: str, apart: Apart | None = None) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        if (len(self.inputs), len(self.outputs)) != (len(interpreter.inputs), len(interpreter.outputs)):
            raise Corrupt(f"{where}: artifact.json declares other inputs or outputs", hint="compile the model again")
        borders = read_borders(artifact.session, where)
        self._interpreter = interpreter
        self._takes = [borders.inputs.get(spec.name, SAME) for spec in self.inputs]
        self._gives = [borders.outputs.get(spec.name, SAME) for spec in self.outputs]
        self._free = [bool(spec.shape) and isinstance(spec.shape[0], str) for spec in self.inputs]
        self._blocks = Blocks(self.inputs, self.outputs, self._own_batch(), self._block)
        self._apart = apart

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return self._blocks.run(inputs)

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return () if self._apart is None else self._apart.times()

    def _block(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        found = self._interpreter.compute(arrays, self._takes)
        if self._apart is not None:
            self._apart.run([self._stored(i, array) for i, array in enumerate(arrays)])
        outputs = zip(found, self._gives, self.outputs, strict=True)
        return [array if border is SAME else border.read(array, spec.dtype) for array, border, spec in outputs]

    def _stored(self, index: int, array: NDArray[Any]) -> NDArray[Any]:
        spec = self._interpreter.inputs[index]
        into = np.empty(tuple(int(size) for size in spec.shape), spec.dtype)
        self._takes[index].write(array, into)
        return into

    def _own_batch(self) -> int:
        for spec, border, free in zip(self._interpreter.inputs, self._takes, self._free, strict=True):
            if free:
                size = spec.shape[border.perm.index(0) if border.perm else 0]
                return size if isinstance(size, int) else 1
        return 1
