"""OpenVINO on the CPU."""

from __future__ import annotations

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
    yield OvRunner(artifact, _compile(openvino, path, artifact, options), options.profile)


def compile_options(entries: Mapping[str, str], options: RunOptions) -> dict[str, Any]:
    """Returns properties for repeatable timing: one stream, a fixed number of threads, float32 unless asked."""
    return {
        "INFERENCE_NUM_THREADS": options.threads,
        "NUM_STREAMS": 1,
        PRECISION_HINT: "f32",
        "PERF_COUNT": options.profile,
        **entries,
    }


def _compile(openvino: Any, path: Path, artifact: Artifact, options: RunOptions) -> Any:
    core = openvino.Core()
    try:
        model = core.read_model(path / artifact.files[0])
        return core.compile_model(model, "CPU", compile_options(artifact.session, options))
    except RuntimeError as error:
        raise Corrupt(
            f"{path / artifact.files[0]}: OpenVINO {openvino.__version__} cannot open it: {error}",
            hint=f"compile it again; it was made for openvino{artifact.runtime_range}",
        ) from error


class OvRunner:
    """A compiled model with one inference request."""

    def __init__(self, artifact: Artifact, compiled: Any, profiled: bool) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._request = compiled.create_infer_request()
        self._profiled = profiled
        self._times: dict[tuple[str, str], list[float]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Positions, not names, tell tensors apart: OpenVINO may join the names of tensors that it found equal."""
        check_inputs(self.inputs, inputs)
        feed = [np.ascontiguousarray(inputs[spec.name]) for spec in self.inputs]
        try:
            found = self._request.infer(feed, share_inputs=True)
        except RuntimeError as error:
            raise StepFailed(f"OpenVINO: {error}", hint="try the original model on the same input") from error
        if self._profiled:
            self._record()
        return {spec.name: found[index] for index, spec in enumerate(self.outputs)}

    def _record(self) -> None:
        for info in self._request.profiling_info:
            if str(info.status).endswith("EXECUTED"):
                key = (info.node_name, info.exec_type)
                self._times.setdefault(key, []).append(info.real_time.total_seconds() * 1e6)

    def operator_times(self) -> tuple[OperatorTime, ...]:
        return tuple(OperatorTime(node, op, statistics.median(found)) for (node, op), found in self._times.items())


plugin = OpenVino
