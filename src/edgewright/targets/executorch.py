"""ExecuTorch on the CPU: float32, float16 and int8 from QuantizeLinear/DequantizeLinear, in the XNNPACK delegate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Scheme
from edgewright.errors import ConfigError, StepFailed
from edgewright.runtimes._require import require

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._executorch.lower import Program
    from edgewright.targets._hub import Hub

MODEL_FILE = "model.pte"


@dataclass(frozen=True, slots=True)
class ExecuTorchTarget:
    """Compiles to a .pte file by way of torch.export, and proves what the XNNPACK delegate takes of it.

    Scales are those of the model's quantisers: nothing is calibrated again. The file has fixed sizes; a free batch axis
    becomes `batch`, and the runner runs other batches in blocks of it.

    Attributes:
        strict: Fail when a node does not run as planned.
        batch: Size of a free batch axis.
    """

    name: ClassVar[str] = "executorch"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("executorch", "torch", "onnx-ir", "onnxscript")
    runtime: ClassVar[str] = "executorch"
    extra: ClassVar[str] = "executorch"

    strict: bool = False
    batch: int = 1

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        from edgewright.targets._executorch.refusal import refusals

        return tuple(refusals(graph))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.graph.schemes.executorch import S8S8

        return (S8S8,)

    def precisions(self, device: Device) -> Mapping[str, str]:
        missing = "XNNPACK's kernels for {} are only tried on processors that compute in it; this one does not"
        half = bool({"fphp", "asimdhp", "avx512_fp16"}.intersection(device.isa))
        return {
            "float32": "",
            "float16": "" if half else missing.format("float16"),
            "bfloat16": "ExecuTorch delegates next to nothing in bfloat16",
        }

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.pte` and `artifact.json`.

        Raises:
            ToolchainMissing: ExecuTorch is not installed.
            ConfigError: `batch` is below 1.
            StepFailed: An operator is not supported (named with its node) or a size is not fixed; the model breaks the
                scheme that its plan names; or `strict` and a node does not run as planned.
        """
        require("executorch", self.extra)
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient

        if self.batch < 1:
            raise ConfigError(f"executorch: batch = {self.batch}, at least 1 expected", hint="leave it out for 1")
        hub = read_hub(inputs["model"])
        reasons = self.refuses(hub.model)
        if reasons:
            hint = "export the model with fixed sizes and standard operators, or leave this target out"
            raise StepFailed("ExecuTorch: " + "; ".join(reasons[:5]), hint=hint)
        require_obedient(hub.model, hub.plan)
        program = self._compile(hub)
        (out / MODEL_FILE).write_bytes(program.content)
        context.progress(0.5, "proving placement")
        self._describe(program, hub, out, inputs.get("data"))

    def _compile(self, hub: Hub) -> Program:
        from edgewright.targets._executorch.lower import examples, lower, quiet
        from edgewright.targets._executorch.prepare import prepare

        prepared = prepare(hub.model, self.batch)
        with quiet():
            from edgewright.targets._executorch.steps import to_steps

            return lower(to_steps(prepared), examples(prepared))

    def _describe(self, program: Program, hub: Hub, out: Path, data: Path | None) -> None:
        from importlib.metadata import version

        from edgewright.targets import _judge
        from edgewright.targets._executorch.proof import prove, said
        from edgewright.targets._feed import feeds
        from edgewright.targets._intent import intents

        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=version("executorch"),
            runtime_range=runtime_range(version("executorch")),
            files=(MODEL_FILE,),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision="",
        )
        proven = prove(artifact, program, hub, feeds(hub.inputs, data))
        placement = _judge.judged(hub.model, proven, intents(hub.model, hub.plan, "float32"))
        precision = _judge.main_precision(hub.model, placement)
        artifact = replace(artifact, placement=placement, precision=precision, proof=(said(placement),))
        _judge.write_artifact(artifact, out, strict=self.strict)


def runtime_range(version: str) -> str:
    """From 1.0 on, later releases of one major version read older files (ExecuTorch runtime compatibility policy)."""
    major, minor = version.split(".")[:2]
    return f">={major}.{minor},<{int(major) + 1}"


plugin = ExecuTorchTarget
