"""ONNX Runtime on the CPU.

What ships is the source graph, not the optimised one: ONNX Runtime's optimised graphs hold layouts and fused kernels
chosen for the processor and the version that made them, so a file optimised here would be wrong or slow elsewhere.
The price is that the optimiser runs again whenever the artifact is opened, which `load_ms` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Scheme
from edgewright.runtimes._require import require

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._hub import Hub

PRECISE = "session.x64quantprecision"
"""Session option that is set where products of 8-bit weights could saturate: on x86 without VNNI the kernels for two
unsigned types run instead, which are exact and cost a quarter more time; everywhere else it changes nothing."""


@dataclass(frozen=True, slots=True)
class OnnxRuntimeTarget:
    """Makes a self-contained ONNX file and proves where each kernel runs.

    Attributes:
        strict: Fail when a node does not run as planned.
        precision: `auto` follows the plan; the CPU provider computes in float32 whatever is asked, and says so.
        session: More session options; they win over those of the quantisation scheme.
    """

    name: ClassVar[str] = "onnxruntime"
    version: ClassVar[int] = 3
    requires: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "onnx-ir")
    runtime: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = "onnxruntime"

    strict: bool = False
    precision: str = "auto"
    session: Mapping[str, str] = field(default_factory=dict)

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        require("onnxruntime", self.extra)
        from edgewright.targets._ort_refusal import refusals

        return tuple(refusals(graph))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.targets._ort_schemes import schemes_for

        return schemes_for(device)

    def precisions(self, device: Device) -> Mapping[str, str]:
        casts = "ONNX Runtime's CPU provider casts {} to float32 around every node, which is slower than float32"
        native = device.machine in ("aarch64", "arm64") and "fphp" in device.isa
        return {
            "float32": "",
            "float16": "" if native else casts.format("float16"),
            "bfloat16": "ONNX Runtime's CPU provider has no bfloat16 kernels for convolutions and products",
        }

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.onnx` and `artifact.json`.

        Raises:
            ToolchainMissing: ONNX Runtime is not installed.
            StepFailed: It cannot run the model; or it breaks the scheme that its plan names; or
                `strict` and a node does not run as planned.
        """
        require("onnxruntime", self.extra)
        from edgewright.graph.load import save
        from edgewright.graph.unshare import unshare
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient

        hub = read_hub(inputs["model"])
        require_obedient(hub.model, hub.plan)
        if self._entries(hub).get(PRECISE) == "1":
            unshare(hub.model.graph)
        _without_notes(save(hub.model, out))
        context.progress(0.3, "proving placement")
        self._describe(hub, out, inputs.get("data"))

    def _describe(self, hub: Hub, out: Path, data: Path | None) -> None:
        from edgewright.targets import _judge, _ort_proof
        from edgewright.targets._feed import feeds
        from edgewright.targets._hub import inference_precision
        from edgewright.targets._intent import intents
        from edgewright.targets._ort_range import runtime_range

        ort = require("onnxruntime", self.extra)
        entries = self._entries(hub)
        wanted = intents(hub.model, hub.plan, inference_precision(self.precision, hub.plan.hints))
        proven = _ort_proof.prove(ort, out / "model.onnx", hub, entries, feeds(hub.inputs, data))
        placement = _judge.judged(hub.model, proven, wanted)
        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=ort.__version__,
            runtime_range=runtime_range(ort.__version__, hub.model.opset_imports, hub.model.ir_version),
            files=tuple(sorted(file.name for file in out.iterdir())),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision=_judge.main_precision(hub.model, placement),
            session=entries,
            placement=placement,
        )
        _judge.write_artifact(artifact, out, strict=self.strict)

    def _entries(self, hub: Hub) -> dict[str, str]:
        from edgewright.graph.qdq import read_plan
        from edgewright.graph.saturation import predict
        from edgewright.graph.schemes.onnxruntime import ALL

        scheme = next((scheme for scheme in ALL if scheme.name == hub.plan.scheme), None)
        hinted = hub.plan.hints.get("session", {})
        saturates = not all(risk.safe for risk in predict(hub.model.graph, read_plan(hub.model.graph)))
        return {
            **({PRECISE: "1"} if saturates else {}),
            **(scheme.session if scheme else {}),
            **{str(k): str(v) for k, v in hinted.items()},
            **self.session,
        }


def _without_notes(path: Path) -> None:
    """Drops what ONNX Runtime works out or never reads: inner shapes, documentation, metadata; small models halve."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    path.write_bytes(model.SerializeToString(deterministic=True))


plugin = OnnxRuntimeTarget
