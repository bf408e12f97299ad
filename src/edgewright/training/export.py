"""PyTorch modules and programs to ONNX, as sources read them and as students are written."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, SourceError, StepFailed, ToolchainMissing

if TYPE_CHECKING:
    import onnx_ir
    import torch

_FIXED_AXIS = "write its size instead of a name in [[model.inputs]], or make forward() work for any size"


def export(
    module: torch.nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str] = (),
    *,
    title: str,
    opset: int = 18,
    example: Mapping[str, int] | None = None,
) -> onnx_ir.Model:
    """Exports a module in evaluation mode; batch norm stays unfolded, as training-time passes need it.

    Args:
        module: Takes `inputs` by position.
        inputs: A string in a shape names a dynamic axis.
        outputs: Names of the outputs, in order; empty for the exporter's own.
        title: What errors call the module.
        opset: 18 or newer.
        example: Size of dynamic axes while exporting; 2 for the first axis and 16 for others by default.

    Raises:
        ToolchainMissing: onnxscript is not installed.
        ConfigError: The dtype of an input is unknown.
        SourceError: `forward` takes other inputs.
        StepFailed: The export raised, or fixes an axis that is declared dynamic.
    """
    import torch

    need_onnxscript()
    arguments = tuple(_example(spec, example or {}) for spec in inputs)
    try:
        with quiet():
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                optimize=False,  # anything else folds batch norm
                external_data=False,
                verbose=False,
                opset_version=opset,
                input_names=[spec.name for spec in inputs],
                output_names=list(outputs) or None,
                dynamic_shapes=_dynamic(inputs),
            )
    except Exception as error:  # the exporter wraps whatever the module raised
        raise StepFailed(f"{title}: export failed: {cause(error)}", hint=_hint(error)) from error
    if program is None:
        raise StepFailed(f"{title}: the exporter returned nothing", hint="use torch 2.6 or newer")
    return fold(_with_declared_axes(program.model, inputs))


def need_onnxscript() -> None:
    """Checks that the exporter is complete.

    Raises:
        ToolchainMissing: onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ToolchainMissing("exporting needs onnxscript", hint='pip install "edgewright[build]"') from error


def fold(model: onnx_ir.Model) -> onnx_ir.Model:
    """Folds the exporter's shape arithmetic; batch norm is no constant and stays."""
    from onnxscript import optimizer

    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the exporter's remarks about its own internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def cause(error: BaseException) -> str:
    """Returns the error under the exporter's, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"


def _example(spec: TensorSpec, sizes: Mapping[str, int]) -> torch.Tensor:
    import torch

    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise ConfigError(f'input "{spec.name}": unknown dtype "{spec.dtype}"', hint="e.g. float32 or int64")
    shape = [
        axis if isinstance(axis, int) else sizes.get(axis, 2 if position == 0 else 16)
        for position, axis in enumerate(spec.shape)
    ]
    if dtype.is_floating_point:
        return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return torch.zeros(shape, dtype=dtype)


def _dynamic(specs: Sequence[TensorSpec]) -> tuple[dict[int, Any] | None, ...]:
    import torch

    names = sorted({axis for spec in specs for axis in spec.shape if isinstance(axis, str)})
    dims = {name: torch.export.Dim(name) for name in names}
    per_input = ({i: dims[a] for i, a in enumerate(spec.shape) if isinstance(a, str)} for spec in specs)
    return tuple(axes or None for axes in per_input)


def _with_declared_axes(model: onnx_ir.Model, specs: Sequence[TensorSpec]) -> onnx_ir.Model:
    import onnx_ir as ir

    if len(model.graph.inputs) != len(specs):
        raise SourceError(
            f"{len(specs)} inputs declared, the exported graph has {len(model.graph.inputs)}",
            hint="declare exactly the tensors that forward() uses",
        )
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        for declared, exported in zip(spec.shape, value.shape or (), strict=True):
            if isinstance(declared, str) and isinstance(exported, int):
                raise StepFailed(
                    f'forward() fixes axis "{declared}" of input "{spec.name}" to {exported}', hint=_FIXED_AXIS
                )
        value.shape = ir.Shape(spec.shape)
    return model


def _hint(error: BaseException) -> str:
    if "constraint" in cause(error).lower() or "dynamic" in cause(error).lower():
        return _FIXED_AXIS
    return "forward() must be exportable: no data-dependent Python branches; see torch.export's documentation"
