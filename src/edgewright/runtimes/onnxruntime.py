"""ONNX Runtime, on the CPU or on the execution provider that the artifact names."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from edgewright.core.target import Artifact, OperatorTime, Runner, RunOptions
from edgewright.core.tensors import TensorSpec
from edgewright.errors import Corrupt, EdgewrightError, StepFailed
from edgewright.runtimes._inputs import check_inputs
from edgewright.runtimes._open import load_artifact
from edgewright.runtimes._ort_custom import libraries_of, register
from edgewright.runtimes._ort_providers import CPU, assigned, is_here, open_with, provider_of
from edgewright.runtimes._place import toolchain_python
from edgewright.runtimes._remote import open_remote, other_interpreter
from edgewright.runtimes._require import require

KERNEL = "_kernel_time"
OWN = "edgewright."
DISABLED = "edgewright.disabled_optimizers"
"""Session entry of our own: names of ONNX Runtime's graph transformers to leave out, separated by commas."""
_COMPILED = re.compile(rf".*_(\d+){KERNEL}")


class OnnxRuntime:
    """Opens an ONNX file on the artifact's own provider and on no other, so that nothing falls back silently.

    A provider that only another build of ONNX Runtime has is opened in the environment of its toolchain.
    """

    name: ClassVar[str] = "onnxruntime"
    distribution: ClassVar[str] = "onnxruntime"

    def open(self, artifact: Path, options: RunOptions) -> AbstractContextManager[Runner]:
        """See `edgewright.core.target.Runtime`."""
        return _opened(artifact, options)

    def interpreter(self, artifact: Artifact) -> Path | None:
        """Returns the Python that opens the artifact where this one's build of ONNX Runtime lacks its provider."""
        provider = provider_of(artifact.session)
        if not provider.toolchain or (_installed() and is_here(require("onnxruntime", "onnxruntime"), provider)):
            return None
        python = toolchain_python(provider.toolchain)
        return python if python != Path(sys.executable) else None


def _installed() -> bool:
    return importlib.util.find_spec("onnxruntime") is not None


@contextmanager
def _opened(path: Path, options: RunOptions) -> Iterator[Runner]:
    artifact = load_artifact(path)
    if (python := plugin().interpreter(artifact)) is not None:
        with open_remote(path, options, other_interpreter(python)) as runner:
            yield runner
        return
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
        if not key.startswith(OWN):
            options.add_session_config_entry(key, value)


def open_session(ort: Any, file: Path, options: Any, entries: Mapping[str, str]) -> Any:
    """Opens `file` on the provider of `entries`, with their libraries, without the transformers that they leave out.

    Raises:
        StepFailed: A library of custom operators is not for this machine, or cannot be loaded.
        ToolchainMissing: The provider is not there, or cannot be loaded.
    """
    register(options, libraries_of(entries, file.parent))
    return open_with(ort, file, options, entries, disabled_optimizers=disabled_of(entries))


def disabled_of(entries: Mapping[str, str]) -> list[str] | None:
    """Returns the graph transformers that `entries` leave out; None for none."""
    return [name for name in entries.get(DISABLED, "").split(",") if name] or None


def _session(ort: Any, path: Path, artifact: Artifact, options: RunOptions, traces: Path | None) -> Any:
    entries = {**artifact.session, **options.session}
    chosen = session_options(ort, entries, options.threads)
    if traces is not None:
        chosen.enable_profiling = True
        chosen.profile_file_prefix = str(traces / "ort")
    try:
        session = open_session(ort, path / artifact.files[0], chosen, entries)
    except EdgewrightError:
        raise
    except Exception as error:  # its exception classes share no base but Exception
        raise Corrupt(
            f"{path / artifact.files[0]}: ONNX Runtime {ort.__version__} cannot open it: {error}",
            hint=f"compile it again; it was made for onnxruntime{artifact.runtime_range}",
        ) from error
    _require_as_proven(session, artifact)
    return session


def _require_as_proven(session: Any, artifact: Artifact) -> None:
    """Refuses a session whose CPU took nodes that ran on the provider when the artifact was made.

    Raises:
        StepFailed: It did.
    """
    provider = provider_of(artifact.session)
    proven = {name for node in artifact.placement if node.where == provider.name for name in node.source}
    parts = assigned(session) if proven and provider.name != CPU else {}
    moved = [name for part in parts.get(CPU, ()) for name, _ in part if name in proven]
    if moved or (parts and provider.name not in parts):
        what = f'"{moved[0]}" and {len(moved) - 1} others' if moved else "every node"
        raise StepFailed(
            f"{what} ran on {provider.name} when the artifact was made, and would run on the CPU here",
            hint="another version of ONNX Runtime or another processor: compile the artifact for this one",
        )


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
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(KERNEL)]
    return [_stable(event) for event in kernels]


def _stable(event: dict[str, Any]) -> dict[str, Any]:
    """Names what a provider compiled by its place in the graph: providers put counters and digests of paths in."""
    provider, found = event["args"].get("provider", CPU), _COMPILED.fullmatch(event["name"])
    if provider == CPU or found is None or not event["name"].startswith(f"{provider}_"):
        return event
    args = {**event["args"], "op_name": f"{provider} subgraph"}
    return {**event, "name": f"{provider}#{found.group(1)}{KERNEL}", "args": args}


def median_times(events: list[dict[str, Any]]) -> tuple[OperatorTime, ...]:
    """Takes the median duration per node, in the order of first execution."""
    durations: dict[tuple[str, str], list[float]] = {}
    for event in events:
        key = (event["name"][: -len(KERNEL)], event["args"]["op_name"])
        durations.setdefault(key, []).append(float(event["dur"]))
    return tuple(OperatorTime(node, op, statistics.median(found)) for (node, op), found in durations.items())


plugin = OnnxRuntime
