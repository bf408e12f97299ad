"""Proves which nodes an execution provider other than the CPU's really takes, from the session and its profile.

A provider that compiles gives few kernels and does not tell in which precision each of their nodes runs: those count as
what the graph asks for, and the placement says so.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from edgewright.core.target import NodePlacement
from edgewright.errors import EdgewrightError, StepFailed
from edgewright.runtimes._machine import local_device
from edgewright.runtimes._ort_providers import (
    CPU,
    OPTIONS,
    PROVIDER,
    Provider,
    assigned,
    obstacle,
    provider_of,
    simulates_qnn,
)
from edgewright.runtimes.onnxruntime import KERNEL, median_times, open_session, read_trace, session_options
from edgewright.targets._feed import Feed
from edgewright.targets._hub import Hub
from edgewright.targets._intent import Intent
from edgewright.targets._ort_proof import precision_of, prove, run_under_profile
from edgewright.targets._ort_sources import Kernel, sources

_EDGE = frozenset({"conversion", "integer"})
_QUIET = "as the graph asks for: {} compiles {} nodes into one kernel and does not tell how each of them runs"
Part = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Proven:
    """What was found out about an artifact on this machine.

    Attributes:
        placement: Every kernel that ran; empty where the provider cannot run here.
        sentences: What was proven.
        unproven: What only another machine can show.
    """

    placement: tuple[NodePlacement, ...]
    sentences: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


def prove_anyhow(
    ort: Any,
    out: Path,
    graph: tuple[Hub, Mapping[str, Intent]],
    entries: Mapping[str, str],
    tries: Callable[[], Iterator[Feed]],
) -> Proven:
    """Proves an artifact on its provider; where that cannot run here, that the file is whole and runs on the CPU.

    Raises:
        ToolchainMissing: The provider could run here, but is not installed or cannot be loaded.
        StepFailed: The model cannot be loaded or run, or the provider took no node of it.
    """
    hub, wanted = graph
    provider, file = provider_of(entries), out / "model.onnx"
    reason = obstacle(provider, local_device())
    if not reason:
        placement = prove_on(ort, file, hub, (provider, entries), wanted, tries())
        mine = sum(len(node.source) for node in placement if node.where == provider.name)
        total = sum(len(node.source) for node in placement)
        if not mine:
            raise StepFailed(
                f"{provider.name} took no node of the model: the CPU would compute all of it",
                hint="QNN, Core ML and TensorRT want fixed shapes: export the model with a fixed batch; or quantise it",
            )
        said = f"run by {provider.name} of ONNX Runtime {ort.__version__}: {mine} of {total} operators, the rest CPU"
        simulated = ("times on a Qualcomm processor: its simulator ran here",)
        return Proven(tuple(placement), (said,), simulated if provider.key == "qnn" and simulates_qnn() else ())
    plain = {key: value for key, value in entries.items() if key not in (PROVIDER, OPTIONS)}
    prove(ort, file, hub, plain, tries())
    said = f"loaded and run by the CPU provider of ONNX Runtime {ort.__version__}"
    return Proven((), (said,), (f"which nodes {provider.name} takes, its decisions and its times: {reason}",))


def prove_on(
    ort: Any,
    file: Path,
    hub: Hub,
    how: tuple[Provider, Mapping[str, str]],
    wanted: Mapping[str, Intent],
    tries: Iterator[Feed],
) -> list[NodePlacement]:
    """Returns every kernel that ran, on which provider, with its share of the time.

    What the CPU computed instead of the provider is unplanned; conversions and integers at the edges are not.

    Args:
        ort: The module.
        file: The ONNX or ORT file that ships.
        hub: The same model, to name sources.
        how: The provider and the session entries of the artifact.
        wanted: What the graph asks of each node.
        tries: Inputs to run it with; the next one is used when ONNX Runtime refuses one.

    Raises:
        ToolchainMissing: The provider is not there or cannot be loaded.
        StepFailed: The model cannot be loaded or run.
    """
    provider, _ = how
    with tempfile.TemporaryDirectory(prefix="edgewright-") as folder:
        session = _profiled(ort, file, how, Path(folder))
        parts = assigned(session)
        run_under_profile(session, tries)
        events = read_trace(Path(session.end_profiling()))
    found = _kernels(hub, parts, events)
    return [_judged(node, provider, wanted) for node in _placed(found, events, provider, wanted)]


def _profiled(ort: Any, file: Path, how: tuple[Provider, Mapping[str, str]], folder: Path) -> Any:
    provider, entries = how
    options = session_options(ort, entries, threads=1)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "trace")
    try:
        return open_session(ort, file, options, entries)
    except EdgewrightError:
        raise
    except Exception as error:
        raise StepFailed(
            f"ONNX Runtime {ort.__version__} cannot load the model on {provider.name}: {error}",
            hint="correct provider_options, or leave the operators out that it names",
        ) from error


@dataclasses.dataclass(frozen=True, slots=True)
class _Kernel:
    """One kernel of the profile and the nodes of the model in it."""

    name: str
    op: str
    source: tuple[str, ...]
    size: int = 1


def _kernels(hub: Hub, parts: Mapping[str, tuple[Part, ...]], events: list[dict[str, Any]]) -> list[_Kernel]:
    """Matches kernels with nodes: compiled ones by their number among the parts of the provider, others by name."""
    inside = _compiled(parts, events)
    ran = {event["name"].removesuffix(KERNEL): event["args"]["op_name"] for event in events}
    known = [Kernel(name, op, (name,)) for part in inside.values() for name, op in part]
    known += [Kernel(name, op, (name,)) for name, op in ran.items() if name not in inside]
    made_from = sources(hub.model, known)
    found = []
    for name, op in ran.items():
        members = [member for member, _ in inside.get(name, ((name, op),))]
        names = dict.fromkeys(source for member in members for source in made_from.get(member, ()))
        found.append(_Kernel(name, op, tuple(names), len(members)))
    return found


def _compiled(parts: Mapping[str, tuple[Part, ...]], events: list[dict[str, Any]]) -> dict[str, Part]:
    """Kernels are numbered in the order in which their provider took parts of the graph."""
    found: dict[str, Part] = {}
    for name in {event["name"].removesuffix(KERNEL) for event in events}:
        provider, number, index = name.rpartition("#")
        taken = parts.get(provider, ())
        if number and index.isdigit() and int(index) < len(taken):
            found[name] = taken[int(index)]
    return found


def _placed(
    kernels: list[_Kernel], events: list[dict[str, Any]], provider: Provider, wanted: Mapping[str, Intent]
) -> Iterator[NodePlacement]:
    times = {(time.node, time.op): time.microseconds for time in median_times(events)}
    total = sum(times.values()) or 1.0
    last = {event["name"].removesuffix(KERNEL): event["args"] for event in events}
    for kernel in kernels:
        args = last[kernel.name]
        share = round(times[kernel.name, kernel.op] / total, 4)
        where = "CPU" if args["provider"] == CPU else str(args["provider"])
        if "#" not in kernel.name:
            yield NodePlacement(
                kernel.name, kernel.op, where, precision_of(kernel.op, args), kernel.source, share=share
            )
            continue
        yield from _opaque(kernel, where, share, wanted)


def _opaque(kernel: _Kernel, where: str, share: float, wanted: Mapping[str, Intent]) -> Iterator[NodePlacement]:
    """A compiled kernel, and the nodes in it that cannot run in integers because of the graph itself."""
    hindered = [name for name in kernel.source if name in wanted and wanted[name].obstacle]
    free = tuple(name for name in kernel.source if name not in hindered)
    asked = [wanted[name].precision for name in free if name in wanted]
    precision = max(sorted(set(asked)), key=asked.count) if asked else "float32"
    note = _QUIET.format(where, kernel.size)
    yield NodePlacement(kernel.name, kernel.op, where, precision, free, share=share, note=note)
    for name in hindered:
        yield NodePlacement(f"{kernel.name}/{name}", "node", where, "float32", (name,), note=note)


def _judged(node: NodePlacement, provider: Provider, wanted: Mapping[str, Intent]) -> NodePlacement:
    if node.where == provider.name or node.precision in _EDGE:
        return node
    shown = ", ".join(node.source) or node.node
    note = f"{shown} ran on {node.where}: {provider.name} did not take it, or not with these types and shapes"
    return dataclasses.replace(node, planned=False, note=note)
