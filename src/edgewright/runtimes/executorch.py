"""ExecuTorch on the CPU: its own kernels and the XNNPACK delegate."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._blocks import Blocks
from edgewright.runtimes._etdump import Event, read_events, summed
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require

MODULE = "executorch.extension.pybindings.portable_lib"
_METHOD = "forward"
_PROFILED = 64
"""Runs after which a profiled program is loaded again: its trace grows with every run."""


class ExecuTorch:
    """Opens a .pte file with one method, `forward`."""

    name: ClassVar[str] = "executorch"
    distribution: ClassVar[str] = "executorch"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    file = path / artifact.files[0]
    yield ExecuTorchRunner(artifact, file.read_bytes(), str(file), options)


def load_library() -> Any:
    """Imports ExecuTorch's bindings; they warn that they are experimental, and need PyTorch.

    Raises:
        ToolchainMissing: ExecuTorch is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return require(MODULE, "executorch")


@dataclass(slots=True)
class _Pool:
    """The threads of XNNPACK, which all programs of a process share.

    A program keeps the pool that it was loaded with. Changing the number of threads ends that pool, so that every
    program loaded before must be loaded again before it runs.

    Attributes:
        threads: How many there are now; 0 before anybody asked.
        generation: Rises with every change.
    """

    threads: int = 0
    generation: int = 0

    def take(self, library: Any, threads: int) -> int:
        """Returns the generation of a pool of `threads`."""
        if threads != self.threads:
            with _silent_stderr():
                library._unsafe_reset_threadpool(threads)
            self.threads = threads
            self.generation += 1
        return self.generation


_POOL = _Pool()


class ExecuTorchRunner:
    """A loaded program.

    Args:
        artifact: Its description.
        content: The .pte file.
        where: Its path, for errors.
        options: Threads and whether to profile.

    Raises:
        ToolchainMissing: ExecuTorch is not installed.
        Corrupt: The file cannot be read, or takes other tensors than the artifact declares.
    """

    def __init__(self, artifact: Artifact, content: bytes, where: str, options: RunOptions) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._library = load_library()
        self._torch = require("torch", "executorch")
        self._content, self._where, self._options = content, where, options
        self._generation = -1
        self._program: Any = None
        self._method: Any = None
        self._runs = 0
        self._events: list[Sequence[Event]] = []
        self._load()
        self._blocks = Blocks(self.inputs, self.outputs, self._own_batch(), self._compute)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return self._blocks.run(inputs)

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """Kernels as XNNPACK names them, in the order in which they run; whole microseconds each."""
        return summed(self.events())

    def events(self) -> Sequence[Sequence[Event]]:
        """Kernels of every run so far; empty unless opened with `profile`."""
        self._collect()
        return self._events

    def _load(self) -> None:
        generation = _POOL.take(self._library, max(1, self._options.threads))
        if generation == self._generation:
            return
        self._collect()
        try:
            with _silent_stderr():
                self._program = self._library._load_program_from_buffer(
                    self._content,
                    enable_etdump=self._options.profile,
                    program_verification=self._library.Verification.InternalConsistency,
                )
                self._method = self._program.load_method(_METHOD)
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise Corrupt(
                f"{self._where}: ExecuTorch cannot open it: {text}", hint="compile the model again"
            ) from error
        self._generation = generation

    def _own_batch(self) -> int:
        meta = self._method.method_meta()
        if (meta.num_inputs(), meta.num_outputs()) != (len(self.inputs), len(self.outputs)):
            raise Corrupt(f"{self._where}: artifact.json declares other inputs or outputs", hint="compile it again")
        for index, spec in enumerate(self.inputs):
            if spec.shape and isinstance(spec.shape[0], str):
                return int(meta.input_tensor_meta(index).sizes()[0])
        return 1

    def _compute(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        self._load()
        if self._options.profile and self._runs >= _PROFILED:
            self._generation = -1
            self._load()
        given = [self._torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in arrays]
        try:
            found = self._method(given)
        except RuntimeError as error:
            raise StepFailed(f"ExecuTorch: {error}", hint="try the original model on the same input") from error
        self._runs += 1
        return [np.asarray(value.numpy()) for value in found]

    def _collect(self) -> None:
        """Reads the trace of the runs so far."""
        if self._runs and self._options.profile and self._program.has_etdump():
            with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
                file = Path(folder) / "trace.etdp"
                self._program.write_etdump_result_to_file(str(file))
                self._events += read_events(file.read_bytes()) if file.is_file() else []
        self._runs = 0


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keeps what the library prints about the processor's files, past Python, off the terminal."""
    sys.stderr.flush()
    try:
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except OSError:
        yield
        return
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


plugin = ExecuTorch
