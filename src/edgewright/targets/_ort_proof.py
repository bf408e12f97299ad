"""Runs a model under ONNX Runtime's profiler and reports the kernels that really ran."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from edgewright.core.target import NodePlacement
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.runtimes._ort_providers import CPU
from edgewright.runtimes.onnxruntime import KERNEL, median_times, open_session, read_trace, session_options
from edgewright.targets._feed import Feed
from edgewright.targets._hub import Hub
from edgewright.targets._ort_sources import Kernel, sources

RUNS = 4
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"})
_FLOATS = {"float": "float32", "float16": "float16", "bfloat16": "bfloat16", "double": "float64"}
_EXTERNAL_INITIALIZERS = "session.optimized_model_external_initializers_file_name"


def prove(ort: Any, file: Path, hub: Hub, entries: Mapping[str, str], tries: Iterator[Feed]) -> list[NodePlacement]:
    """Returns every kernel that ran, with its share of the time, and every optimised node that did not.

    Args:
        ort: The module.
        file: The ONNX or ORT file that ships.
        hub: The same model, to name sources.
        entries: Session options of the artifact.
        tries: Inputs to run it with; the next one is used when ONNX Runtime refuses one.

    Raises:
        StepFailed: It cannot be loaded or run.
    """
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        session = _profiled(ort, file, entries, Path(folder))
        run_under_profile(session, tries)
        events = read_trace(Path(session.end_profiling()))
        kernels = _kernels(Path(folder) / "optimised.onnx", events)
    return _placement(events, kernels, sources(hub.model, kernels))


def _profiled(ort: Any, file: Path, entries: Mapping[str, str], folder: Path) -> Any:
    written = {_EXTERNAL_INITIALIZERS: "optimised.data", "session.save_model_format": "ONNX"}
    options = session_options(ort, {**entries, **written}, threads=1)
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "trace")
    try:
        return open_session(ort, file, options, entries)
    except Exception as error:
        raise StepFailed(
            f"ONNX Runtime {ort.__version__} cannot load the model: {error}",
            hint="`edgewright inspect` lists the operators it does not take; clean up or re-export the model",
        ) from error


def run_under_profile(session: Any, tries: Iterator[Feed]) -> None:
    """Runs `session` on the first input that it takes.

    Raises:
        StepFailed: It takes none.
    """
    last: Exception | None = None
    while (feed := next(tries, None)) is not None:
        try:
            for _ in range(RUNS):
                session.run(None, dict(feed))
            return
        except EdgewrightError:
            raise
        except Exception as error:
            last = error
    raise StepFailed(
        f"ONNX Runtime cannot run the model: {last}",
        hint="give the project data whose shapes and dtypes fit the model, or fix its dynamic axes",
    ) from last


def _kernels(file: Path, events: list[dict[str, Any]]) -> list[Kernel]:
    """Reads the optimised graph. Nodes without a name, made by inlining a function, are numbered in the profile."""
    graph = onnx.load(file, load_external_data=False).graph
    named = {node.name for node in graph.node}
    numbered: dict[str, list[str]] = {}
    for time in median_times(events):
        if time.node not in named:
            numbered.setdefault(time.op, []).append(time.node)
    found = []
    for node in graph.node:
        spare = numbered.get(node.op_type, [])
        name = node.name or (spare.pop(0) if spare else "")
        found.append(Kernel(name, node.op_type, tuple(node.output), tuple(node.input)))
    return found


def _placement(
    events: list[dict[str, Any]], kernels: list[Kernel], made_from: Mapping[str, tuple[str, ...]]
) -> list[NodePlacement]:
    times = {(time.node, time.op): time.microseconds for time in median_times(events)}
    total = sum(times.values()) or 1.0
    last = {(event["name"][: -len(KERNEL)], event["args"]["op_name"]): event["args"] for event in events}
    found = [
        NodePlacement(
            node=node,
            op=op,
            where="CPU" if last[node, op]["provider"] == CPU else last[node, op]["provider"],
            precision=precision_of(op, last[node, op]),
            source=made_from.get(node, ()),
            share=round(micros / total, 4),
        )
        for (node, op), micros in times.items()
    ]
    ran = {node for node, _ in times}
    return found + [_idle(kernel, made_from) for kernel in kernels if kernel.name not in ran]


def _idle(kernel: Kernel, made_from: Mapping[str, tuple[str, ...]]) -> NodePlacement:
    """A node in a branch that the proving input did not take, or a container of such branches."""
    source = made_from.get(kernel.name, ())
    return NodePlacement(kernel.name, kernel.op, "CPU", "unknown", source, share=0.0, note="did not run in the proof")


def precision_of(op: str, args: Mapping[str, Any]) -> str:
    """Reads the compute precision off a kernel's name and the types of its tensors."""
    if op in _CONVERSIONS:
        return "conversion"
    inputs, outputs = _types(args["input_type_shape"]), _types(args["output_type_shape"])
    if op.startswith(("QLinear", "QGemm", "QAttention", "DynamicQuantize")) or "Integer" in op:
        return "int8"
    for kind in (*inputs[:1], *outputs, *inputs[1:]):
        if kind in _FLOATS:
            return _FLOATS[kind]
        if kind in ("int8", "uint8"):
            break
    return "integer"


def _types(described: Iterable[Mapping[str, Any]]) -> list[str]:
    return [kind for entry in described for kind in entry]
