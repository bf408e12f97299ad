"""PyTorch's own files on the CPU: TorchScript (`.pt`) and torch.export (`.pt2`).

A TorchScript file is a program: PyTorch compiles its code, which may call every operator that PyTorch has, those that
read files too; its pickles are read by a reader that makes tensors and nothing else. A `.pt2` file is a list of
operators; PyTorch unpickles the samples in it without restriction when they are more than tensors, so such files are
refused here. Neither is a sandbox: open files of your own making, or out of a bundle whose signature you trust.
"""

from __future__ import annotations

import io
import json
import pickle
import statistics
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._blocks import Blocks
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require

BATCH_KEY = "edgewright.batch"
"""Session entry: the batch that the file was made for."""
_SAMPLES, _OBJECTS = "/data/sample_inputs/", "/constants/custom_obj"
_NOISE = ("aten::_assert", "aten::promote_types")


class Torch:
    """Opens a `.pt` or a `.pt2` file."""

    name: ClassVar[str] = "torch"
    distribution: ClassVar[str] = "torch"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    file = path / artifact.files[0]
    yield TorchRunner(artifact, file.read_bytes(), str(file), options)


class TorchRunner:
    """A loaded module.

    Args:
        artifact: Its description.
        content: The file.
        where: Its path, for errors.
        options: Threads (those of the process: PyTorch has one pool) and whether to profile.

    Raises:
        ToolchainMissing: PyTorch is not installed.
        Corrupt: The file cannot be read, or holds pickles.
    """

    def __init__(self, artifact: Artifact, content: bytes, where: str, options: RunOptions) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._torch = require("torch", "torch")
        self._options = options
        self._module = load_module(self._torch, content, where)
        self._times: dict[tuple[str, str], list[float]] = {}
        batch = artifact.session.get(BATCH_KEY, "1")
        if not batch.isdigit():
            raise Corrupt(f'{where}: {BATCH_KEY} = "{batch}" of the session', hint="compile the model again")
        self._blocks = Blocks(self.inputs, self.outputs, int(batch), self._compute)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        return self._blocks.run(inputs)

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """PyTorch's operators in the order in which they run."""
        return tuple(OperatorTime(node, op, statistics.median(found)) for (node, op), found in self._times.items())

    def _compute(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        torch = self._torch
        if torch.get_num_threads() != max(1, self._options.threads):
            torch.set_num_threads(max(1, self._options.threads))
        given = [torch.from_numpy(np.require(array, requirements=["C", "W"])) for array in arrays]
        try:
            with torch.no_grad():
                found = self._profiled(given) if self._options.profile else self._module(*given)
        except RuntimeError as error:
            raise StepFailed(f"PyTorch: {error}", hint="try the original model on the same input") from error
        mine = {id(tensor) for tensor in given}
        return [np.array(v.numpy()) if id(v) in mine or v._base is not None else v.numpy() for v in found]

    def _profiled(self, given: Sequence[Any]) -> Any:
        profiler = require("torch.profiler", "torch")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as trace:
                found = self._module(*given)
        for (node, op), micros in operators(trace.events()):
            self._times.setdefault((node, op), []).append(micros)
        return found


def operators(events: Sequence[Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yields name, operator and microseconds of the operators that a module called itself, in order."""
    seen: dict[str, int] = {}
    for event in events:
        parent = event.cpu_parent.name if event.cpu_parent is not None else "forward"
        op = event.name
        if parent == "forward" and op.startswith("aten::") and not op.startswith(_NOISE):
            seen[op] = seen.get(op, 0) + 1
            yield (f"{op} #{seen[op]}", op), float(event.cpu_time_total)


def load_module(torch: Any, content: bytes, where: str) -> Any:
    """Loads a TorchScript or a torch.export file, on the CPU.

    Args:
        torch: The package.
        content: The file.
        where: Its path, for errors.

    Raises:
        Corrupt: It cannot be read, or holds pickles of more than tensors.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if any(name.endswith("models/model.json") for name in archive.namelist()):
                return load_program(torch, content, where).module()
            return torch.jit.load(io.BytesIO(content)).eval()
    except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())[:300]
        raise Corrupt(f"{where}: PyTorch cannot open it: {text}", hint="compile the model again") from error


def load_program(torch: Any, content: bytes, where: str) -> Any:
    """Loads a torch.export file as `torch.export.ExportedProgram`.

    Raises:
        Corrupt: It cannot be read, or holds pickles of more than tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _refuse_pickles(torch, zipfile.ZipFile(io.BytesIO(content)), where)
            return require("torch.export", "torch").load(io.BytesIO(content))
    except (RuntimeError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())[:300]
        raise Corrupt(f"{where}: PyTorch cannot open it: {text}", hint="export the program again") from error


def _refuse_pickles(torch: Any, archive: zipfile.ZipFile, where: str) -> None:
    """Refuses a `.pt2` whose pickles hold more than tensors: PyTorch 2.13 would load those without restriction."""
    for name in archive.namelist():
        if _OBJECTS in name:
            raise Corrupt(f"{where}: {name} is an object, which may run any code", hint="do not trust this file")
        if _SAMPLES in name and (content := archive.read(name)):
            _require_tensors(torch, content, name, where)
        if name.endswith("_config.json"):
            entries = json.loads(archive.read(name)).get("config", {}).values()
            folder = name.rpartition("/")[0]
            for path in [str(e["path_name"]) for e in entries if e.get("use_pickle")]:
                _require_tensors(torch, archive.read(f"{folder}/{path}"), path, where)


def _require_tensors(torch: Any, content: bytes, name: str, where: str) -> None:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise Corrupt(f"{where}: {name} holds more than tensors: {error}", hint="do not trust this file") from error


plugin = Torch
