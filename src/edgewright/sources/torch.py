"""Source `torch`: a PyTorch module built by the user's function, exported once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context
from edgewright.core.tensors import TensorSpec
from edgewright.errors import ConfigError
from edgewright.training.export import export


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
        from edgewright.sources import _eager, _feeds, _verify
        from edgewright.training import factory

        self._check_fields()
        module = factory.build_module(self.factory, inputs.get("code"), context.seed)
        if "checkpoint" in inputs:
            factory.load_checkpoint(module, inputs["checkpoint"])
        context.progress(0.2, "module built")
        exported = export(module, self.inputs, self.outputs, title=self.factory, opset=self.opset, example=self.example)
        model, notes = tidy.tidy(exported)
        path = load.save(model, out)
        check.check_file(path)
        context.progress(0.7, "exported")
        specs = load.tensor_specs(load.load(path))
        feeds = _feeds.make_feeds(inputs.get("data"), specs[0], self.samples, context.seed)
        eager = _eager.eager(module, [s.name for s in self.inputs], [s.name for s in specs[1]])
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


plugin = TorchSource
