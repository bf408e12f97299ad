"""A runtime that computes nothing: zeros of the declared shapes, for tests of everything around a runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact

MAGIC = b"edgewright null model\n"


class Null:
    """Opens a null artifact: a file of `MAGIC` and the model's digest."""

    name: ClassVar[str] = "null"
    distribution: ClassVar[str] = "edgewright"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    content = (path / artifact.files[0]).read_bytes()
    if not content.startswith(MAGIC) or len(content) != len(MAGIC) + 64:
        raise Corrupt(f"{path / artifact.files[0]}: not a null model", hint="compile it again")
    ops = tuple(OperatorTime(node.node, node.op, 0.0) for node in artifact.placement)
    yield NullRunner(artifact.inputs, artifact.outputs, ops if options.profile else ())


class NullRunner:
    """Returns zeros."""

    def __init__(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], ops: tuple[OperatorTime, ...]):
        self.inputs: tuple[TensorSpec, ...] = tuple(inputs)
        self.outputs: tuple[TensorSpec, ...] = tuple(outputs)
        self._ops = ops

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        check_inputs(self.inputs, inputs)
        axes = _axes(self.inputs, inputs)
        return {spec.name: np.zeros(_shape(spec, axes), spec.dtype) for spec in self.outputs}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return self._ops


def _axes(specs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    return {
        axis: size
        for spec in specs
        for axis, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
        if isinstance(axis, str)
    }


def _shape(spec: TensorSpec, axes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(axes.get(axis, 1) if isinstance(axis, str) else axis for axis in spec.shape)


plugin = Null
