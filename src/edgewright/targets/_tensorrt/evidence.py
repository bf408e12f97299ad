"""What `artifact.json` says was proven here, and what only the GPU can show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgewright.core.target import NodePlacement
from edgewright.errors import StepFailed
from edgewright.graph.opset import opset
from edgewright.graph.qdq import is_quantised
from edgewright.graph.sparsity import LayerSparsity, measure
from edgewright.targets import _judge
from edgewright.targets._hub import Hub
from edgewright.targets._intent import WEIGHTED, intents
from edgewright.targets._tensorrt.export import COMMAND, SCRIPT, Wish
from edgewright.targets._tensorrt.gpus import ANY, Gpu
from edgewright.targets._tensorrt.prove import BUILDS_FOR, INSTALL, TOOLCHAIN, Proof
from edgewright.targets._tensorrt.recipe import Recipe
from edgewright.targets._tensorrt.refusal import unknown
from edgewright.targets._tensorrt.typed import asymmetric

EXTRAS = (SCRIPT, COMMAND)
_OPSETS = ((8, 2, 13), (8, 4, 15), (8, 5, 16), (8, 6, 17), (10, 0, 20))
"""Newest opset that the parser of a release names as supported: major, minor, opset."""


NAMED_API = (8, 5)
"""From this version on tensors are addressed by name, as the Runner does."""


def judged(hub: Hub, precision: str, found: tuple[NodePlacement, ...]) -> tuple[NodePlacement, ...]:
    """Holds kernels against the plan. Only products are held to INT8: TensorRT fuses the rest into them in float."""
    narrow = {node.node for node in found if node.precision == "float8"}
    as_int8 = tuple(replace(node, precision="int8") if node.node in narrow else node for node in found)
    wanted = intents(hub.model, hub.plan, precision)
    weighted = {node.name for node in hub.model.graph if node.op_type in WEIGHTED}
    held = _judge.judged(hub.model, as_int8, {name: intent for name, intent in wanted.items() if name in weighted})
    return tuple(replace(node, precision="float8") if node.node in narrow else node for node in held)


def main_precision(hub: Hub, wish: Wish, placement: tuple[NodePlacement, ...]) -> str:
    """Returns the precision of most products; without a placement, the one that the graph asks for."""
    if placement:
        return _judge.main_precision(hub.model, placement)
    return wish.quantised if is_quantised(hub.model.graph) else wish.precision


def files(out: Path) -> tuple[str, ...]:
    """Returns what the device needs, the model first."""
    found = sorted(path.name for path in out.iterdir() if path.name not in EXTRAS)
    return tuple(sorted(found, key=lambda name: name != "model.onnx"))


def runtime_range(gpu: Gpu, *, written_for_flags: bool) -> str:
    """Returns the versions of TensorRT that read what was written: flags went with 11, types came with 10."""
    return ">=10.0" if gpu.typed and not written_for_flags else ">=8.0,<11"


def proven(proof: Proof | None, gpu: Gpu) -> tuple[str, ...]:
    """Returns one sentence per thing that was shown on this machine."""
    said = [
        "the model that ships has symmetric int8 quantisers and float biases only, and operators that TensorRT knows"
    ]
    if proof is None:
        return tuple(said)
    shown = " and ".join(proof.architectures)
    said.append(f"parsed and built by TensorRT-RTX {proof.version} for {shown}")
    if proof.placement:
        said.append(f"kernels and their types read off the engine for {proof.architectures[0]}")
    return tuple(said)


def unproven(proof: Proof | None, gpu: Gpu, wish: Wish, recipe: Recipe, model: ir.Model) -> tuple[str, ...]:
    """Returns one sentence per thing that only another machine can show, and how."""
    said = []
    if recipe.typing == "flags":
        precisions = " and ".join(recipe.flags) or "float32"
        said.append(f"which layers run in {precisions}: TensorRT {_release(gpu)} chooses on the device")
    if gpu.tensorrt < NAMED_API:
        said.append(
            f"edgewright on {gpu.name}: its TensorRT {_release(gpu)} is older than the Runner's interface; build with "
            "trtexec.sh and load the engine from your own program"
        )
    if proof is None:
        said.append(f"parsing and building: the toolchain {TOOLCHAIN} is not installed here: {INSTALL}")
    elif gpu.name != ANY and gpu.capability not in BUILDS_FOR:
        stand_in = proof.architectures[0]
        said.append(f"the engine for {gpu.architecture}: TensorRT-RTX does not build for it, {stand_in} stood in")
    if wish.quantised == "float8":
        said.append("quality in float8: what is predicted is that of INT8 with the same ranges")
    if wish.sparse:
        said.append(f"what sparse = true brings: {_skipped(measure(model))}")
    if wish.dla is not None:
        said.append(f"placement on DLA core {wish.dla}: TensorRT decides on the device; trtexec.sh prints it")
    newest = max((o for *version, o in _OPSETS if tuple(version) <= gpu.tensorrt), default=13)
    if opset(model) > newest:
        said.append(
            f"parsing by TensorRT {_release(gpu)} of {gpu.name}: it names opset {newest} as its newest, this is "
            f"{opset(model)}; export the model with that opset if it refuses"
        )
    said.append(
        f'answers and speed on {gpu.name or "the GPU"}: run build_engine.py there, or measure with device = "ssh://..."'
    )
    return tuple(said)


def _skipped(layers: tuple[LayerSparsity, ...]) -> str:
    kept = sum(layer.pattern in ("1:4", "2:4") for layer in layers)
    if not kept:
        return "nothing, as no layer keeps to 2:4; put the pass `sparsify` into the recipe"
    return f"{kept} of {len(layers)} layers keep to 2:4, TensorRT chooses on the device which of them skip zeros"


def require_readable(model: ir.Model) -> None:
    """Holds the model that ships against what can be told of TensorRT without it.

    Raises:
        StepFailed: A quantiser or an operator that TensorRT does not take.
    """
    broken = [*asymmetric(model.graph), *unknown(model)]
    if broken:
        raise StepFailed(
            "; ".join(broken[:5]), hint="clean up or re-export the model without these, or leave this target out"
        )


def _release(gpu: Gpu) -> str:
    return ".".join(map(str, gpu.tensorrt))
