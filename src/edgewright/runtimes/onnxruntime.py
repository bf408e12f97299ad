"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._require import require

PROVIDER = "CPUExecutionProvider"
KERNEL = "_kernel_time"
DISABLED = "edgewright.disabled_optimizers"
"""Session entry of our own: names of ONNX Runtime's graph transformers to leave out, separated by commas."""


class OnnxRuntime:
    """Opens an ONNX file with the CPU provider only, so that nothing falls back silently."""

    name: ClassVar[str] = "onnxruntime"
    distribution: ClassVar[str] = "onnxruntime"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    ort = require("onnxruntime", "onnxruntime")
    traces = Path(tempfile.mkdtemp(prefix="edgewright-")) if options.profile else None
    try:
        yield OrtRunner(artifact, _session(ort, path, artifact, options, traces), traces is not None)
    finally:
        if traces is not None:
            shutil.rmtree(traces, ignore_errors=True)


def session_options(ort: Any, entries: Mapping[str, str], threads: int) -> Any:
    """Returns options for repeatable timing: sequential, `threads` intra-operator threads, nothing printed."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    add_entries(options, entries)
    return options


def add_entries(options: Any, entries: Mapping[str, str]) -> None:
    """Sets the entries that ONNX Runtime itself understands."""
    for key, value in entries.items():
        if key != DISABLED:
            options.add_session_config_entry(key, value)


def open_session(ort: Any, file: Path, options: Any, entries: Mapping[str, str]) -> Any:
    """Opens `file` on the CPU without the graph transformers that `entries` leave out."""
    disabled = [name for name in entries.get(DISABLED, "").split(",") if name]
    return ort.InferenceSession(str(file), options, providers=[PROVIDER], disabled_optimizers=disabled or None)


def _session(ort: Any, path: Path, artifact: Artifact, options: RunOptions, traces: Path | None) -> Any:
    entries = {**artifact.session, **options.session}
    chosen = session_options(ort, entries, options.threads)
    if traces is not None:
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(traces / "ort")
    try:
        return open_session(ort, path / artifact.files[0], chosen, entries)
    except Exception as error:  # its exception classes share no base but Exception
        raise Corrupt(
            f"{path / artifact.files[0]}: ONNX Runtime {ort.__version__} cannot open it: {error}",
            hint=f"compile it again; it was made for onnxruntime{artifact.runtime_range}",
        ) from error


class OrtRunner:
    """An open session."""

    def __init__(self, artifact: Artifact, session: Any, profiled: bool) -> None:
        self.inputs: tuple[TensorSpec, ...] = artifact.inputs
        self.outputs: tuple[TensorSpec, ...] = artifact.outputs
        self._session = session
        self._names = [spec.name for spec in artifact.outputs]
        self._profiled = profiled
        self._times: tuple[OperatorTime, ...] | None = None

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        check_inputs(self.inputs, inputs)
        try:
            found = self._session.run(self._names, dict(inputs))
        except Exception as error:
            raise StepFailed(f"ONNX Runtime: {error}", hint="try the original model on the same input") from error
        return dict(zip(self._names, found, strict=True))

    def operator_times(self) -> tuple[OperatorTime, ...]:
        """Ends the recording: later runs are not profiled."""
        if self._profiled and self._times is None:
            self._times = median_times(read_trace(Path(self._session.end_profiling())))
        return self._times or ()


def read_trace(file: Path) -> list[dict[str, Any]]:
    """Returns the kernel events of a profile, in the order they ran: name, duration in microseconds, arguments."""
    events = json.loads(file.read_text())
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]


def median_times(events: list[dict[str, Any]]) -> tuple[OperatorTime, ...]:
    """Takes the median duration per node, in the order of first execution."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        key = (event["name"][: -len(KERNEL)], event["args"]["op_name"])
        durations.setdefault(key, []).append(float(event["dur"]))
    return tuple(OperatorTime(node, op, statistics.median(found)) for (node, op), found in durations.items())


plugin = OnnxRuntime
