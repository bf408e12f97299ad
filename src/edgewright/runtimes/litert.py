"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require


class LiteRt:
    """Opens a .tflite file; float and quantised ones, whose inputs and outputs may be scaled integers."""

    name: ClassVar[str] = "litert"
    distribution: ClassVar[str] = "ai-edge-litert"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`. LiteRT tells no time per operator."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    file = path / artifact.files[0]
    yield LiteRtRunner(file.read_bytes(), str(file), options.threads)


class LiteRtRunner:
    """An interpreter.

    Args:
        content: The .tflite file.
        where: Its path, for errors.
        threads: Of the interpreter.
        keep_tensors: Keep the values of inner tensors, computed by LiteRT's own kernels. Its default delegate
            (XNNPACK) joins operators and shows nothing of what is between them, so it is left out then.

    Raises:
        ToolchainMissing: LiteRT is not installed.
        Corrupt: It cannot read the file.
    """

    def __init__(self, content: bytes, where: str, threads: int = 1, *, keep_tensors: bool = False) -> None:
        module = require("ai_edge_litert.interpreter", "tflite")
        kinds = module.OpResolverType
        resolver = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_tensors else kinds.AUTO
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._interpreter = module.Interpreter(
                    model_content=content,
                    num_threads=threads,
                    experimental_op_resolver_type=resolver,
                    experimental_preserve_all_tensors=keep_tensors,
                )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:400]
            raise Corrupt(f"{where}: LiteRT cannot open it: {text}", hint="convert the model again") from error
        self._takes = self._interpreter.get_input_details()
        self._gives = self._interpreter.get_output_details()
        self.inputs: tuple[TensorSpec, ...] = tuple(_spec(detail) for detail in self._takes)
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(detail) for detail in self._gives)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        check_inputs(self.inputs, inputs)
        fed = [(detail, inputs[detail["name"]]) for detail in self._takes]
        try:
            self._resize(fed)
            for detail, array in fed:
                self._interpreter.set_tensor(detail["index"], array)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise StepFailed(f"LiteRT: {error}", hint="try the original model on the same input") from error
        return {detail["name"]: np.array(self._interpreter.get_tensor(detail["index"])) for detail in self._gives}

    def kept(self, numbers: Iterable[int]) -> dict[int, NDArray[Any]]:
        """Returns inner tensors of the last run, as stored, by their numbers in the file.

        Raises:
            ValueError: One was not kept.
        """
        return {number: np.array(self._interpreter.get_tensor(number)) for number in numbers}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return ()

    def _resize(self, fed: Sequence[tuple[Mapping[str, Any], NDArray[Any]]]) -> None:
        changed = [(d["index"], a.shape) for d, a in fed if tuple(d["shape"]) != a.shape]
        for index, shape in changed:
            self._interpreter.resize_tensor_input(index, shape)
        if changed:
            self._interpreter.allocate_tensors()
            self._takes = self._interpreter.get_input_details()


def _spec(detail: Mapping[str, Any]) -> TensorSpec:
    name, signature = str(detail["name"]), detail["shape_signature"]
    sizes = [int(n) for n in (signature if len(signature) else detail["shape"])]
    shape = tuple(n if n >= 0 else f"{name}.{axis}" for axis, n in enumerate(sizes))
    return TensorSpec(name, np.dtype(detail["dtype"]).name, shape)


plugin = LiteRt
