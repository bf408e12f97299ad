"""Source `torch`: a PyTorch module built by the user's function, exported once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.step import Context
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError, SourceError, StepFailed
from edgewright.sources import _onnx_export

if TYPE_CHECKING:
    import onnx_ir
    import torch


_FIXED_AXIS = "write its size instead of a name in [[model.inputs]], or make forward() work for any size"


@dataclass(frozen=True, slots=True)
class TorchSource:
    """Exports the module that `factory` builds, in evaluation mode, with batch norm left unfolded.

    `run` takes optionally inputs["code"] (the folder that holds the factory's module), inputs["checkpoint"]
    (safetensors or a state dict) and inputs["data"] (a `data.json`); it writes `model.onnx` and `import.json`.

    Attributes:
        factory: `module:function`, called without arguments.
        inputs: One per argument of `forward`, in its order; a string in a shape names a dynamic axis.
        outputs: Names of the outputs, in order; empty for the exporter's own.
        example: Size of dynamic axes while exporting; 2 for the first axis and 16 for others by default.
        opset: 18 or newer.
        samples: Batches to compare on.
        least_snr_db: Smallest signal-to-noise ratio between the eager module and the import, in dB.
    """

    name: ClassVar[str] = "torch"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("torch", "safetensors", "onnx", "onnx-ir", "onnxscript", "onnxruntime")
    extra: ClassVar[str] = "torch"

    factory: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] = ()
    example: Mapping[str, int] = field(default_factory=dict)
    opset: int = 18
    samples: int = 16
    least_snr_db: float = 60.0

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Builds, exports and compares.

        Raises:
            ToolchainMissing: torch or onnxscript is not installed.
            ConfigError: The declared inputs cannot be meant.
            SourceError: No such factory, or a checkpoint that is damaged, unsafe or does not fit.
            StepFailed: The factory or the export raised, or the import computes something else than the module.
        """
        from edgewright.graph import check, load, opset, tidy
        from edgewright.sources import _factory, _feeds, _verify

        self._check_fields()
        module = _factory.build_module(self.factory, inputs.get("code"), context.seed)
        if "checkpoint" in inputs:
            _factory.load_checkpoint(module, inputs["checkpoint"])
        context.progress(0.2, "module built")
        model, notes = tidy.tidy(self._export(module))
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.7, "exported")
        specs = load.tensor_specs(load.load(path))
        feeds = _feeds.make_feeds(inputs.get("data"), specs[0], self.samples, context.seed)
        eager = _onnx_export.eager(module, [s.name for s in self.inputs], [s.name for s in specs[1]])
        difference = _verify.compare(eager, _verify.onnxruntime_evaluator(path), feeds.batches)
        _verify.check_difference(difference, self.least_snr_db, "the module in PyTorch")
        runner = _verify.describe_feeds("the module in PyTorch", feeds)
        record = _verify.ImportRecord(
            self.name,
            opset.opset(model),
            *specs,
            difference.samples,
            difference.largest,
            difference.snr_db,
            runner,
            notes,
        )
        _verify.write_record(record, out)

    def _check_fields(self) -> None:
        if not self.inputs:
            raise ConfigError(
                "a PyTorch model needs its inputs declared", hint="add [[model.inputs]] for each argument"
            )
        if self.opset < 18:
            raise ConfigError(f"opset {self.opset}, the exporter writes 18 and newer", hint="set opset = 18")

    def _export(self, module: torch.nn.Module) -> onnx_ir.Model:
        import torch

        _onnx_export.need_onnxscript()
        arguments = tuple(_example(spec, self.example) for spec in self.inputs)
        try:
            with _onnx_export.quiet():
                program = torch.onnx.export(
                    module,
                    arguments,
                    dynamo=True,
                    optimize=False,  # anything else folds batch norm, which training-time passes need
                    external_data=False,
                    verbose=False,
                    opset_version=self.opset,
                    input_names=[spec.name for spec in self.inputs],
                    output_names=list(self.outputs) or None,
                    dynamic_shapes=_dynamic(self.inputs),
                )
        except Exception as error:  # the exporter wraps whatever the module raised
            raise StepFailed(
                f"{self.factory}: export failed: {_onnx_export.cause(error)}", hint=_hint(error)
            ) from error
        if program is None:
            raise StepFailed(f"{self.factory}: the exporter returned nothing", hint="use torch 2.6 or newer")
        return _onnx_export.fold(_with_declared_axes(program.model, self.inputs))


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


def _dynamic(specs: tuple[TensorSpec, ...]) -> tuple[dict[int, Any] | None, ...]:
    import torch

    names = sorted({axis for spec in specs for axis in spec.shape if isinstance(axis, str)})
    dims = {name: torch.export.Dim(name) for name in names}
    per_input = ({i: dims[a] for i, a in enumerate(spec.shape) if isinstance(a, str)} for spec in specs)
    return tuple(axes or None for axes in per_input)


def _with_declared_axes(model: onnx_ir.Model, specs: tuple[TensorSpec, ...]) -> onnx_ir.Model:
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
    if "constraint" in _onnx_export.cause(error).lower() or "dynamic" in _onnx_export.cause(error).lower():
        return _FIXED_AXIS
    return "forward() must be exportable: no data-dependent Python branches; see torch.export's documentation"


plugin = TorchSource
