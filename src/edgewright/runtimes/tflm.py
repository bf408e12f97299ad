"""TensorFlow Lite Micro: the interpreter of microcontrollers, run on this machine with its reference kernels."""

from __future__ import annotations

import os
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._litert_apart import Apart
from edgewright.runtimes._litert_artifact import ArtifactRunner
from edgewright.runtimes._litert_io import SAME, Border
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require

ARENA_BYTES = 32 << 20
"""Room given to the interpreter here; what it uses of it is what a board needs, and is measured."""
LARGEST_ARENA = 1 << 30
_DAMAGED = (struct.error, IndexError, AttributeError, TypeError, UnicodeDecodeError)
"""What reading a truncated file ends in."""
_TOTAL = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_PART = re.compile(r"'([^']+)' used (\d+) bytes with alignment overhead \(requested (\d+) bytes for (\d+) ")


@dataclass(frozen=True, slots=True)
class Arena:
    """What the interpreter says it allocated, in bytes.

    Attributes:
        total: All of it.
        head: Tensors and scratch buffers, which share room over time.
        tail: What stays: descriptions of tensors and nodes, data of operators, quantisation parameters.
        parts: Kind of a persistent allocation -> (bytes used, bytes asked for, how many).
    """

    total: int
    head: int
    tail: int
    parts: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


class Tflm:
    """Opens a .tflite file with the interpreter of the Python package `tflite-micro`."""

    name: ClassVar[str] = "tflm"
    distribution: ClassVar[str] = "tflite_micro"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`. It runs on one thread."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    file = path / artifact.files[0]
    names = tuple(spec.name for spec in artifact.inputs), tuple(spec.name for spec in artifact.outputs)
    runner = TflmRunner(file.read_bytes(), str(file), names)
    apart = Apart(file.read_bytes(), {}, partial(_Plain, str(file))) if options.profile else None
    yield ArtifactRunner(artifact, runner, str(file), apart)


class TflmRunner:
    """An interpreter.

    Args:
        content: The .tflite file.
        where: Its path, for errors.
        names: Names of inputs and of outputs, in the file's order; the interpreter knows none.

    Raises:
        ToolchainMissing: tflite-micro is not installed.
        StepFailed: It has no kernel for an operator, or the kernel refuses the types or shapes.
    """

    def __init__(self, content: bytes, where: str, names: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())) -> None:
        module = require("tflite_micro", "micro").runtime
        self._interpreter = _interpreter(module, content, where)
        takes = _details(self._interpreter.get_input_details, names[0])
        gives = _details(self._interpreter.get_output_details, names[1])
        self.inputs: tuple[TensorSpec, ...] = tuple(_spec(n, d) for n, d in takes)
        self.outputs: tuple[TensorSpec, ...] = tuple(_spec(n, d) for n, d in gives)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        check_inputs(self.inputs, inputs)
        found = self.compute([inputs[spec.name] for spec in self.inputs], [SAME] * len(self.inputs))
        return {spec.name: array for spec, array in zip(self.outputs, found, strict=True)}

    def compute(self, arrays: Sequence[NDArray[Any]], borders: Sequence[Border]) -> list[NDArray[Any]]:
        """Runs the file once; see `edgewright.runtimes.litert.LiteRtRunner.compute`."""
        try:
            for index, (array, border) in enumerate(zip(arrays, borders, strict=True)):
                self._interpreter.set_input(self._stored(index, array, border), index)
            self._interpreter.invoke()
            return [self._interpreter.get_output(index) for index in range(len(self.outputs))]
        except (RuntimeError, ValueError) as error:
            raise StepFailed(f"tflite-micro: {error}", hint="try the original model on the same input") from error

    def _stored(self, index: int, array: NDArray[Any], border: Border) -> NDArray[Any]:
        if border is SAME:
            return array
        spec = self.inputs[index]
        into = np.empty(tuple(int(size) for size in spec.shape), spec.dtype)
        border.write(array, into)
        return into

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return ()

    def arena(self) -> Arena:
        """Returns what the interpreter has allocated, by its own account."""
        _, report = _heard(self._interpreter.print_allocations)
        totals = {name: int(size) for name, size in _TOTAL.findall(report)}
        parts = {name: (int(used), int(asked), int(count)) for name, used, asked, count in _PART.findall(report)}
        if set(totals) != {"total", "head", "tail"}:
            raise StepFailed(
                f"tflite-micro reported its allocations in an unknown form: {report[:200]!r}",
                hint="install the version of tflite-micro that Edgewright names",
            )
        return Arena(**totals, parts=parts)


class _Plain:
    """The interpreter with the methods that LiteRT's has, for a file of one operator."""

    def __init__(self, where: str, content: bytes) -> None:
        self._runner = TflmRunner(content, where)
        self._fed: dict[int, NDArray[Any]] = {}
        self._found: list[NDArray[Any]] = []

    def reset_all_variables(self) -> None:
        self._fed = {}

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": index} for index in range(len(self._runner.inputs))]

    def get_output_details(self) -> list[dict[str, int]]:
        return [{"index": index} for index in range(len(self._runner.outputs))]

    def set_tensor(self, index: int, array: NDArray[Any]) -> None:
        self._fed[index] = array

    def invoke(self) -> None:
        arrays = [self._fed[index] for index in range(len(self._runner.inputs))]
        self._found = self._runner.compute(arrays, [SAME] * len(arrays))

    def get_tensor(self, index: int) -> NDArray[Any]:
        return self._found[index]


def _interpreter(module: Any, content: bytes, where: str) -> Any:
    size = ARENA_BYTES
    while True:
        made, said = _heard(partial(_make, module, content, size))
        if not isinstance(made, Exception):
            return made
        if "Failed to" not in said or size >= LARGEST_ARENA:
            raise _refusal(where, made, said)
        size *= 4


def _make(module: Any, content: bytes, size: int) -> Any:
    """Returns the interpreter, or the error: a file it refuses is an ordinary answer here."""
    try:
        return module.Interpreter.from_bytes(content, arena_size=size)
    except (RuntimeError, ValueError, *_DAMAGED) as error:
        return error


def _refusal(where: str, error: Exception, said: str) -> StepFailed | Corrupt:
    reason = " ".join(said.split())[:400] or str(error)
    if isinstance(error, _DAMAGED):
        return Corrupt(f"{where}: tflite-micro cannot read it: {reason}", hint="convert the model again")
    return StepFailed(
        f"{where}: tflite-micro refuses it: {reason}",
        hint="quantise the model to int8, or keep to operators that TensorFlow Lite Micro has kernels for",
    )


def _heard(call: Callable[[], Any]) -> tuple[Any, str]:
    """Returns what a call returned and what native code wrote to standard error, where alone it explains itself."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard:
        kept = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            result = call()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        heard.seek(0)
        return result, heard.read().decode("utf-8", "replace")


def _details(
    describe: Callable[[int], Mapping[str, Any]], names: tuple[str, ...]
) -> list[tuple[str, Mapping[str, Any]]]:
    """Asks for one tensor after the other; the interpreter says how many there are only by refusing the next."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    while True:
        detail, _ = _heard(partial(_or_none, describe, len(found)))
        if detail is None:
            return found
        name = names[len(found)] if len(found) < len(names) else str(len(found))
        found.append((name, detail))


def _or_none(describe: Callable[[int], Mapping[str, Any]], index: int) -> Mapping[str, Any] | None:
    try:
        return describe(index)
    except (IndexError, ValueError, RuntimeError, SystemError):
        return None


def _spec(name: str, detail: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(name, np.dtype(detail["dtype"]).name, tuple(int(n) for n in detail["shape"]))


plugin = Tflm
