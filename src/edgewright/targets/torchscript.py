"""TorchScript's own file format: float on any machine with PyTorch; quantisers are computed in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Scheme
from edgewright.targets._torch_files.format import precisions, write

if TYPE_CHECKING:
    import onnx_ir

MODEL_FILE = "model.pt"


@dataclass(frozen=True, slots=True)
class TorchScriptTarget:
    """Writes a TorchScript file, for programs that load such files themselves.

    The file has fixed sizes; a free batch axis becomes `batch`, and the runner runs other batches in blocks of it.

    Attributes:
        strict: Fail when a node does not run as planned.
        batch: Size of a free batch axis.
    """

    name: ClassVar[str] = "torchscript"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("torch", "onnx-ir", "onnxscript")
    runtime: ClassVar[str] = "torch"
    extra: ClassVar[str] = "torch"

    strict: bool = False
    batch: int = 1

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        from edgewright.targets._executorch.refusal import refusals

        return tuple(refusals(graph))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        return ()

    def precisions(self, device: Device) -> Mapping[str, str]:
        return precisions()

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.pt` and `artifact.json`.

        Raises:
            ToolchainMissing: PyTorch is not installed.
            ConfigError: `batch` is below 1.
            StepFailed: An operator is not supported (named with its node) or a size is not fixed; or `strict` and a
                node does not run as planned.
        """
        file = out / MODEL_FILE
        write(self.name, file, lambda made: made.script(), inputs, context, batch=self.batch, strict=self.strict)


plugin = TorchScriptTarget
