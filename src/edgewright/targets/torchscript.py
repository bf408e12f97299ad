"""TorchScript's own file format: float on any machine with PyTorch; quantisers are computed in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Scheme

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
        slow = "PyTorch has few kernels in {} for this kind of processor"
        whole = "PyTorch has no integer kernels that a plain file could name; it computes quantisers in float"
        return {"float32": "", **{name: slow.format(name) for name in ("float16", "bfloat16")}, "int8": whole}

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.pt` and `artifact.json`.

        Raises:
            ToolchainMissing: PyTorch is not installed.
            ConfigError: `batch` is below 1.
            StepFailed: An operator is not supported (named with its node) or a size is not fixed; or `strict` and a
                node does not run as planned.
        """
        from edgewright.runtimes._require import require

        require("torch", self.extra)
        from edgewright.targets._torch_files.proof import describe, read

        hub, exporter = read(inputs["model"], self.name, self.batch)
        operators = exporter.operators()
        (out / MODEL_FILE).write_bytes(exporter.script())
        context.progress(0.5, "proving placement")
        data = inputs.get("data")
        describe(self.name, out / MODEL_FILE, hub, operators, batch=self.batch, data=data, strict=self.strict)


plugin = TorchScriptTarget
