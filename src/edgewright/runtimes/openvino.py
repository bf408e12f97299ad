"""OpenVINO on the CPU."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require_openvino

_COUNTED = re.compile(r"(?<![A-Za-z0-9])([A-Z][A-Za-z]*)_\d+")
PRECISION_HINT = "INFERENCE_PRECISION_HINT"


class OpenVino:
    """Opens OpenVINO's IR with the CPU plugin; its default of computing in bfloat16 where it can is switched off."""

    name: ClassVar[str] = "openvino"
    distribution: ClassVar[str] = "openvino"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    openvino = require_openvino()
    compiled, names = _compile(openvino, path, artifact, options)
    yield OvRunner(artifact, compiled, openvino.Tensor, names if options.profile else None)


def compile_options(entries: Mapping[str, str], options: RunOptions) -> dict[str, Any]:
    """Returns properties for repeatable timing: one stream, a fixed number of threads, float32 unless asked."""
    return {
        "INFERENCE_NUM_THREADS": options.threads,
        "NUM_STREAMS": 1,
        PRECISION_HINT: "f32",
        "PERF_COUNT": options.profile,
        **entries,
    }


class StableNames:
    """Renames what OpenVINO called after a counter of its process, so that nodes keep their names in every process.

    Nodes made while compiling are called e.g. `Multiply_9028`, and others after them. Each such word that is not a
    name of the model becomes `Multiply#1`, `Multiply#2`..., in the order in which they are first met.
    """

    def __init__(self, model: Any) -> None:
        self._known = {op.get_friendly_name() for op in model.get_ops()}
        self._words: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        return name if name in self._known else _COUNTED.sub(self._word, name)

    def _word(self, match: re.Match[str]) -> str:
        word = match.group()
        if word in self._known:
            return word
        return self._words.setdefault(word, f"{match.group(1)}#{len(self._words) + 1}")


def _compile(openvino: Any, path: Path, artifact: Artifact, options: RunOptions) -> tuple[Any, StableNames]:
    core = openvino.Core()
    try:
        model = core.read_model(path / artifact.files[0])
        return core.compile_model(model, "CPU", compile_options(artifact.session, options)), StableNames(model)
    except RuntimeError as error:
        raise Corrupt(
            f"{path / artifact.files[0]}: OpenVINO {openvino.__version__} cannot open it: {error}",
            hint=f"compile it again; it was made for openvino{artifact.runtime_range}",
        ) from error


class OvRunner:
    """A compiled model with one inference request."""

    def __init__(self, artifact: Artifact, compiled: Any, tensor: Any, names: StableNames | None) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._request = compiled.create_infer_request()
        self._tensor = tensor
        self._fed: list[NDArray[Any]] = []  # the request points into these
        self._names = names
        self._times: dict[tuple[str, str], list[float]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Positions, not names, tell tensors apart: OpenVINO may join the names of tensors that it found equal.

        Tensors are set one by one: handing arrays to `infer` costs its dispatcher as long as a small model takes.
        """
        check_inputs(self.inputs, inputs)
        self._fed = [np.require(inputs[spec.name], requirements=["C", "W"]) for spec in self.inputs]
        try:
            for index, array in enumerate(self._fed):
                self._request.set_input_tensor(index, self._tensor(array, shared_memory=True))
            found = self._request.infer()
        except RuntimeError as error:
            raise StepFailed(f"OpenVINO: {error}", hint="try the original model on the same input") from error
        if self._names is not None:
            for node, op, micros in executed(self._request, self._names):
                self._times.setdefault((node, op), []).append(micros)
        return {spec.name: found[index] for index, spec in enumerate(self.outputs)}

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return tuple(OperatorTime(node, op, statistics.median(found)) for (node, op), found in self._times.items())


def executed(request: Any, names: StableNames) -> list[tuple[str, str, float]]:
    """Returns node, kernel and microseconds of everything the last run of `request` executed, in order."""
    infos = [(names(info.node_name), info) for info in request.profiling_info]
    return [
        (name, info.exec_type, info.real_time.total_seconds() * 1e6)
        for name, info in infos
        if str(info.status).endswith("EXECUTED")
    ]


plugin = OpenVino
