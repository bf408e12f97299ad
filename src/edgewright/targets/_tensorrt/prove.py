"""Parses and builds in the environment of the toolchain `tensorrt-rtx`: for named GPUs, without one."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.core.target import NodePlacement
from edgewright.errors import StepFailed
from edgewright.runtimes import _tensorrt_build
from edgewright.runtimes._place import toolchain_python
from edgewright.targets._hub import Hub
from edgewright.targets._intent import WEIGHTED
from edgewright.targets._tensorrt.gpus import ANY, Gpu
from edgewright.targets._tensorrt.placement import kernels, placement
from edgewright.targets._tensorrt.typed import QUANTISERS
from edgewright.targets._trace import spread

TOOLCHAIN = "tensorrt-rtx"
INSTALL = f"edgewright toolchain install {TOOLCHAIN}"
BUILDS_FOR = (80, 86, 89, 120, 121)
"""Compute capabilities that TensorRT-RTX 1.7 builds for; for Turing (75) it refuses float32 products, which TensorRT
itself computes."""
USUAL = (86, 89)
"""Built for where the GPU is not named: Ampere and Ada."""
_TAIL = 600


@dataclass(frozen=True, slots=True)
class Proof:
    """What TensorRT-RTX made of a model.

    Attributes:
        version: Of TensorRT-RTX.
        architectures: It built for these.
        placement: Kernels of the engine for the first of them.
    """

    version: str
    architectures: tuple[str, ...]
    placement: tuple[NodePlacement, ...]


def architectures(gpu: Gpu) -> tuple[str, ...]:
    """Returns what to build for: the GPU's own architecture, else the nearest one that TensorRT-RTX has."""
    if gpu.name == ANY:
        return tuple(f"sm_{each}" for each in USUAL)
    nearest = max((each for each in BUILDS_FOR if each <= gpu.capability), default=USUAL[0])
    return (f"sm_{nearest}",)


def installed() -> Path | None:
    """Returns the interpreter to prove with; None where the toolchain is not installed."""
    return toolchain_python(TOOLCHAIN)


def refused(python: Path, folder: Path) -> tuple[str, ...]:
    """Returns one sentence per node that the parser does not take.

    Args:
        python: The toolchain's interpreter.
        folder: With `engine.json` and the model.
    """
    head, *_ = _ask(python, folder, "--parse-only")
    if "error" not in head:
        return ()
    return tuple(_sentence(each) for each in head["findings"]) or (str(head["error"]),)


def prove(python: Path, folder: Path, scratch: Path, hub: Hub, wanted: tuple[str, ...]) -> Proof:
    """Builds for every architecture of `wanted`.

    Args:
        python: The toolchain's interpreter.
        folder: With `engine.json` and the model.
        scratch: Where engines are put meanwhile.
        hub: The model that was written, to name the sources of kernels.
        wanted: Architectures such as `sm_89`.

    Raises:
        StepFailed: The parser refuses a node, or an engine cannot be built.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    options = [word for each in wanted for word in ("--architecture", each)]
    head, *built = _ask(python, folder, "--out", str(scratch / "proof.engine"), *options)
    if "error" in head:
        reasons = "; ".join(map(_sentence, head["findings"][:5])) or head["error"]
        raise StepFailed(
            f"TensorRT-RTX {head['version']} cannot read the model: {reasons}",
            hint="clean up or re-export the model without these operators, or leave this target out",
        )
    failed = [line for line in built if "error" in line]
    if failed:
        raise StepFailed(
            f"no engine for {failed[0]['architecture']}: {failed[0]['error']}",
            hint="keep the operators it names in float, or set another `precision`",
        )
    content = [_taken(Path(line["file"])) for line in built]
    return Proof(head["version"], wanted, tuple(_placement(content[0], hub)) if content else ())


def _placement(engine: bytes, hub: Hub) -> list[NodePlacement]:
    graph = hub.model.graph
    weighted = {node.name or "" for node in graph if node.op_type in WEIGHTED}
    quantisers = {node.name or "" for node in graph if node.op_type in QUANTISERS | {"Cast"}}
    return _named(placement(kernels(engine), weighted, quantisers), hub)


def _named(found: list[NodePlacement], hub: Hub) -> list[NodePlacement]:
    """Keeps the names that are nodes of the model, and adds nodes that TensorRT folded to their kernels."""
    known = {node.name or "": index for index, node in enumerate(hub.model.graph)}
    owner = {layer: entry.node for entry in found for layer in entry.source if layer in known}
    lost: dict[str, list[str]] = {}
    for layer, kernel in spread(hub.model, owner).items():
        lost.setdefault(kernel, []).append(layer)
    return [
        NodePlacement(e.node, e.op, e.where, e.precision, _ordered(lost.get(e.node, []), known), note=e.note)
        for e in found
    ]


def _ordered(layers: list[str], known: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(set(layers), key=known.__getitem__))


def _taken(file: Path) -> bytes:
    content = file.read_bytes()
    file.unlink()
    return content


def _sentence(finding: dict[str, str]) -> str:
    return f'node "{finding["node"]}": TensorRT does not take {finding["op"]} here: {finding["message"]}'


def _ask(python: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    command = [str(python), "-I", _tensorrt_build.__file__, "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines or (done.returncode and not any("error" in line for line in lines)):
        raise StepFailed(
            f"the toolchain {TOOLCHAIN} ended with exit status {done.returncode}: {done.stderr[-_TAIL:].strip()}",
            hint=f"install it anew: {INSTALL} --again",
        )
    return lines
