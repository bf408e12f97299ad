"""Writes the folder that a device builds its engine from: the typed model, how to build it, and three ways to do so."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgewright.core.codec import encode_json
from edgewright.errors import StepFailed
from edgewright.graph.load import save
from edgewright.graph.qdq import is_quantised
from edgewright.runtimes import _tensorrt_build
from edgewright.store.files import digest_files
from edgewright.targets._hub import Hub
from edgewright.targets._tensorrt.gpus import Gpu
from edgewright.targets._tensorrt.recipe import ENGINE, Recipe, Shapes, profile_of, trtexec
from edgewright.targets._tensorrt.typed import typed, without_quantisers

RECIPE, SCRIPT, COMMAND, CALIBRATION = "engine.json", "build_engine.py", "trtexec.sh", "int8.cache"
_FLAGS = {"float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the fields of the target ask for.

    Attributes:
        gpu: To build for.
        precision: Of what is not computed in integers.
        quantised: What quantised products compute in: `int8` or `float8`.
        sparse: Use 2:4 sparse weights.
        dla: Accelerator core; None for the GPU alone.
        gpu_fallback: Run on the GPU what the accelerator cannot.
        profiles: Ranges of free axes.
        batch: Size of a free batch axis without a profile.
        workspace_mib: Scratch memory; 0 for TensorRT's own limit.
    """

    gpu: Gpu
    precision: str
    quantised: str = "int8"
    sparse: bool = False
    dla: int | None = None
    gpu_fallback: bool = True
    profiles: Shapes = field(default_factory=dict)
    batch: int = 1
    workspace_mib: int = 0


def export(hub: Hub, wish: Wish, out: Path) -> tuple[Hub, Recipe]:
    """Writes the model, `engine.json`, `build_engine.py` and `trtexec.sh`.

    Returns:
        The model as it was written, and how it is built.

    Raises:
        StepFailed: The model is quantised in a way that TensorRT or the GPU does not take.
        ConfigError: The profiles do not fit the model.
    """
    model, typing = hub.model, "strong" if wish.gpu.typed and wish.dla is None else "flags"
    quantised = is_quantised(model.graph)
    _require_integers(wish, quantised)
    ranges: dict[str, float] = {}
    model = typed(model, wish.precision if typing == "strong" else "float32", float8=wish.quantised == "float8")
    if wish.dla is not None and quantised:
        model, ranges = without_quantisers(model)
        (out / CALIBRATION).write_text(calibration_cache(ranges, wish.gpu.tensorrt), encoding="ascii")
    recipe = Recipe(
        typing=typing,
        flags=_flags(wish, quantised) if typing == "flags" else (),
        sparse=wish.sparse,
        dla_core=wish.dla,
        gpu_fallback=wish.gpu_fallback,
        profile=profile_of(hub.inputs, wish.profiles, wish.batch),
        workspace_mib=wish.workspace_mib,
        ranges=ranges,
        gpu=wish.gpu.name,
    )
    save(model, out)
    recipe = replace(recipe, digests=digest_files(out))
    (out / RECIPE).write_bytes(encode_json(recipe))
    (out / SCRIPT).write_bytes(Path(_tensorrt_build.__file__).read_bytes())
    (out / COMMAND).write_text(_script(recipe, wish.gpu), encoding="utf-8")
    return replace(hub, model=model), recipe


def _require_integers(wish: Wish, quantised: bool) -> None:
    if quantised and not wish.gpu.native("int8"):
        raise StepFailed(
            f"the model is quantised to INT8: {wish.gpu.why_not('int8')}",
            hint='take the float model and the pass "fp16", or name another `gpu`',
        )
    if wish.quantised == "float8" and not quantised:
        raise StepFailed(
            "float8 takes the ranges of a quantised model, this one is not quantised",
            hint='quantise it with static-int8 and the scheme "tensorrt-s8s8" first',
        )


def calibration_cache(ranges: Mapping[str, float], tensorrt: tuple[int, int]) -> str:
    """Returns ranges in the form that trtexec reads: tensor and the bits of its scale as a big-endian float.

    Args:
        ranges: Tensor -> largest value.
        tensorrt: Version that reads it, (major, minor): the first line names it.
    """
    major, minor = tensorrt
    number = f"{major}{minor:02d}00" if major >= 10 else f"{major}{minor}00"
    lines = [f"{name}: {struct.pack('>f', most / 127.0).hex()}" for name, most in ranges.items()]
    return "\n".join([f"TRT-{number}-EntropyCalibration2", *lines, ""])


def _flags(wish: Wish, quantised: bool) -> tuple[str, ...]:
    """Returns the precisions an older TensorRT, or a DLA core, may choose from; a core needs one of the two."""
    narrow = _FLAGS.get(wish.precision, "fp16" if wish.dla is not None else "")
    return tuple(flag for flag in (narrow, "int8" if quantised else "") if flag)


def _script(recipe: Recipe, gpu: Gpu) -> str:
    shown = gpu.name or "any GPU from Turing on"
    return f"""#!/bin/sh
# Builds {ENGINE} for {shown} with NVIDIA's trtexec; run it on that machine, in this folder.
# On a Jetson trtexec lies in /usr/src/tensorrt/bin.
set -e
cd "$(dirname "$0")"
PATH="$PATH:/usr/src/tensorrt/bin"
{trtexec(recipe, gpu)}
"""
