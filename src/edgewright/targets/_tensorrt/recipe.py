"""How an engine is built: `engine.json` for the build script, and the same as one line for trtexec."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.targets._tensorrt.gpus import Gpu

MODEL, ENGINE, TIMING = "model.onnx", "model.engine", "timing.cache"
SELECTORS = ("min", "opt", "max")
Shapes = Mapping[str, Mapping[str, Sequence[int]]]
"""Input -> min, opt and max -> shape."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`engine.json`: everything that `build_engine.py` needs to know.

    Attributes:
        typing: `strong` where the types of the graph decide, `flags` where `flags` do.
        flags: Precisions that an older TensorRT may choose: `fp16`, `int8`, `bf16`.
        sparse: Let tensor cores skip half of weights that are 2:4 sparse.
        dla_core: Run what it can on this accelerator core; None for the GPU alone.
        gpu_fallback: Run on the GPU what the accelerator cannot.
        profile: Input with free axes -> its smallest, usual and largest shape.
        workspace_mib: Scratch memory that kernels may use; 0 for TensorRT's own limit.
        ranges: Tensor -> largest value, where quantisers cannot stand in the graph.
        gpu: The GPU it is meant for; empty for any from Turing on.
        digests: File -> SHA-256, of what the engine is built of.
        onnx: The model.
        schema: Of this file.
    """

    typing: str
    flags: tuple[str, ...] = ()
    sparse: bool = False
    dla_core: int | None = None
    gpu_fallback: bool = True
    profile: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    workspace_mib: int = 0
    ranges: Mapping[str, float] = field(default_factory=dict)
    gpu: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    onnx: str = MODEL
    schema: int = 1


def profile_of(inputs: Sequence[TensorSpec], profiles: Shapes, batch: int) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Returns input -> (min, opt, max) for every input that has free axes.

    Args:
        inputs: Of the model.
        profiles: What the user asks for.
        batch: Size of a free first axis that no profile speaks of; all three shapes are then the same.

    Raises:
        ConfigError: A profile names no input, misses a shape or does not fit; or another axis is free and has none.
    """
    unknown = sorted(set(profiles) - {spec.name for spec in inputs})
    if unknown:
        raise ConfigError(
            f'profiles: the model has no input "{unknown[0]}"', hint=f"inputs: {', '.join(map(str, inputs))}"
        )
    found = {spec.name: _shapes(spec, profiles.get(spec.name), batch) for spec in inputs}
    return {name: shapes for name, shapes in found.items() if shapes}


def free_axes(spec: TensorSpec) -> tuple[str, ...]:
    """Returns the free axes beside the batch: a profile must say how large they get."""
    return tuple(axis for axis in spec.shape[1:] if isinstance(axis, str))


def _shapes(spec: TensorSpec, asked: Mapping[str, Sequence[int]] | None, batch: int) -> tuple[tuple[int, ...], ...]:
    if asked is None:
        if all(isinstance(axis, int) for axis in spec.shape):
            return ()
        if free_axes(spec):
            raise ConfigError(f"{_missing(spec)}", hint=_example(spec))
        fixed = tuple(axis if isinstance(axis, int) else batch for axis in spec.shape)
        return (fixed,) * 3
    if set(asked) != set(SELECTORS):
        raise ConfigError(
            f'profiles: "{spec.name}" needs min, opt and max, got {", ".join(asked)}', hint=_example(spec)
        )
    shapes = tuple(tuple(asked[each]) for each in SELECTORS)
    for shape in shapes:
        fits = len(shape) == len(spec.shape) and all(
            isinstance(axis, str) or axis == size for axis, size in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            raise ConfigError(f'profiles: {list(shape)} does not fit the input "{spec}"', hint=_example(spec))
    if any(not low <= best <= high for low, best, high in zip(*shapes, strict=True)):
        raise ConfigError(f'profiles: "{spec.name}" must grow from min over opt to max', hint=_example(spec))
    return shapes


def _missing(spec: TensorSpec) -> str:
    axes = ", ".join(f'"{axis}"' for axis in free_axes(spec))
    return f'input "{spec.name}" has the free axis {axes}: TensorRT builds for a range of sizes, which is not given'


def _example(spec: TensorSpec) -> str:
    low, high = ("[" + ", ".join(str(a if isinstance(a, int) else size) for a in spec.shape) + "]" for size in (1, 8))
    return f"profiles = {{ {spec.name} = {{ min = {low}, opt = {low}, max = {high} }} }}"


def trtexec(recipe: Recipe, gpu: Gpu) -> str:
    """Returns the command line that builds the same engine with NVIDIA's own program."""
    new = gpu.tensorrt >= (8, 6)
    words = ["trtexec", f"--onnx={recipe.onnx}", f"--saveEngine={ENGINE}", f"--timingCacheFile={TIMING}"]
    words.append("--skipInference" if new else "--buildOnly")
    words += ["--stronglyTyped"] if recipe.typing == "strong" else [f"--{flag}" for flag in recipe.flags]
    if recipe.sparse:
        words.append("--sparsity=enable")
    if recipe.dla_core is not None:
        words.append(f"--useDLACore={recipe.dla_core}")
        words += ["--allowGPUFallback"] if recipe.gpu_fallback else []
    if recipe.ranges:
        words.append("--calib=int8.cache")
    for index, name in enumerate(SELECTORS):
        shapes = [f"{key}:{'x'.join(map(str, shape[index]))}" for key, shape in recipe.profile.items()]
        words += [f"--{name}Shapes={','.join(shapes)}"] if shapes else []
    if recipe.workspace_mib:
        size = recipe.workspace_mib
        words.append(f"--memPoolSize=workspace:{size}" if gpu.tensorrt >= (8, 4) else f"--workspace={size}")
    return shlex.join([*words, "--profilingVerbosity=detailed"])
