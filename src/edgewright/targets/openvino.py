"""OpenVINO on the CPU: float32, bfloat16 where the processor has it, int8 from QuantizeLinear/DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Scheme
from edgewright.errors import StepFailed
from edgewright.runtimes._require import require_openvino

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._hub import Hub

MODEL_FILE = "model.xml"
_SHORT = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "avx10_2"})


@dataclass(frozen=True, slots=True)
class OpenVinoTarget:
    """Makes OpenVINO's intermediate representation (xml and bin) and proves where each node runs.

    Attributes:
        strict: Fail when a node does not run as planned.
        precision: `auto` follows the plan's `inference_precision`; else `float32`, `bfloat16` or `float16`.
        compress: Store float weights as float16: half the size, computed in `precision` all the same.
        properties: More properties of the CPU plugin, e.g. {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "32"}.
    """

    name: ClassVar[str] = "openvino"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("openvino", "onnx-ir")
    runtime: ClassVar[str] = "openvino"
    extra: ClassVar[str] = "openvino"

    strict: bool = False
    precision: str = "auto"
    compress: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        openvino = require_openvino()
        from edgewright.targets._ov_refusal import refusals

        return tuple(refusals(openvino, graph))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.targets._ov_schemes import schemes_for

        return schemes_for(device)

    def precisions(self, device: Device) -> Mapping[str, str]:
        has_bf16 = bool(_BF16.intersection(device.isa))
        has_f16 = bool({"amx_fp16", "avx512_fp16", "fphp", "asimdhp"}.intersection(device.isa))
        missing = "this processor has no {} instructions, so OpenVINO computes in float32"
        return {
            "float32": "",
            "bfloat16": "" if has_bf16 else missing.format("bfloat16"),
            "float16": "" if has_f16 else missing.format("float16"),
        }

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.xml`, `model.bin` and `artifact.json`.

        Raises:
            ToolchainMissing: OpenVINO is not installed.
            StepFailed: It cannot convert or run the model; or it breaks the scheme that its plan names; or
                `strict` and a node does not run as planned.
        """
        openvino = require_openvino()
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient

        hub = read_hub(inputs["model"])
        require_obedient(hub.model, hub.plan)
        self._convert(openvino, hub, out, context.scratch)
        context.progress(0.5, "proving placement")
        self._describe(openvino, hub, out, inputs.get("data"))

    def _convert(self, openvino: Any, hub: Hub, out: Path, scratch: Path) -> None:
        from edgewright.targets._ov_convert import convert

        try:
            model = convert(openvino, hub, scratch)
        except RuntimeError as error:
            reasons = self.refuses(hub.model) or (str(error),)
            raise StepFailed(
                f"OpenVINO {openvino.__version__} cannot convert the model: " + "; ".join(reasons[:5]),
                hint="clean up or re-export the model without these operators, or leave this target out",
            ) from error
        openvino.save_model(model, out / MODEL_FILE, compress_to_fp16=self.compress)

    def _describe(self, openvino: Any, hub: Hub, out: Path, data: Path | None) -> None:
        from edgewright.targets import _judge, _ov_proof
        from edgewright.targets._feed import feeds
        from edgewright.targets._hub import inference_precision
        from edgewright.targets._intent import intents

        precision = inference_precision(self.precision, hub.plan.hints)
        entries = {"INFERENCE_PRECISION_HINT": _SHORT[precision], **self.properties}
        proven = _ov_proof.prove(openvino, out / MODEL_FILE, hub, entries, feeds(hub.inputs, data))
        placement = _judge.judged(hub.model, proven, intents(hub.model, hub.plan, precision))
        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=openvino.__version__.split("-")[0],
            runtime_range=runtime_range(openvino.__version__),
            files=(MODEL_FILE, MODEL_FILE.replace(".xml", ".bin")),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision=_judge.main_precision(hub.model, placement),
            session=entries,
            placement=placement,
        )
        _judge.write_artifact(artifact, out, strict=self.strict)


def runtime_range(version: str) -> str:
    """Later releases read older IR; two years of them are what OpenVINO's long-term support covers."""
    year, release = version.split(".")[:2]
    return f">={year}.{release},<{int(year) + 2}"


plugin = OpenVinoTarget
