"""ONNX Runtime, on the CPU or through another of its execution providers.

What ships is the source graph, not the optimised one: ONNX Runtime's optimised graphs hold layouts and fused kernels
chosen for the processor and the version that made them, so a file optimised here would be wrong or slow elsewhere.
The price is that the optimiser runs again whenever the artifact is opened, which `load_ms` measures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Scheme
from edgewright.errors import ConfigError
from edgewright.runtimes._ort_custom import LIBRARIES, place_of
from edgewright.runtimes._ort_providers import OPTIONS, PROVIDER, PROVIDERS, is_installed, obstacle, simulates_qnn
from edgewright.runtimes._require import require

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._hub import Hub
    from edgewright.targets._intent import Intent
    from edgewright.targets._ort_assigned import Proven
    from edgewright.targets._ort_format import Converted

FORMATS = ("onnx", "ort")
MODEL_FILE = "model.onnx"

PRECISE = "session.x64quantprecision"
"""Session option that is set where products of 8-bit weights could saturate: on x86 without VNNI the kernels for two
unsigned types run instead, which are exact and cost a quarter more time; everywhere else it changes nothing."""


@dataclass(frozen=True, slots=True)
class OnnxRuntimeTarget:
    """Makes a self-contained ONNX or ORT file and proves where each kernel runs.

    Attributes:
        strict: Fail when a node does not run as planned.
        precision: `auto` follows the plan; the CPU provider computes in float32 whatever is asked, and says so.
        session: More session options; they win over those of the quantisation scheme.
        provider: Execution provider: `cpu`, `cuda`, `tensorrt`, `xnnpack`, `openvino`, `qnn` or `coreml`.
        provider_options: Its options by ONNX Runtime's own names, e.g. {"device_type": "GPU"} for openvino.
        format: `onnx`, or `ort` for builds of ONNX Runtime with only the operators that a model needs.
    """

    name: ClassVar[str] = "onnxruntime"
    version: ClassVar[int] = 4
    requires: ClassVar[tuple[str, ...]] = (
        *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn", "onnx", "onnx-ir"),
    )
    runtime: ClassVar[str] = "onnxruntime"
    extra: ClassVar[str] = "onnxruntime"

    strict: bool = False
    precision: str = "auto"
    session: Mapping[str, str] = field(default_factory=dict)
    provider: str = "cpu"
    provider_options: Mapping[str, str] = field(default_factory=dict)
    format: str = "onnx"

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise ConfigError(f'provider "{self.provider}" is unknown', hint=f"one of {', '.join(PROVIDERS)}")
        if self.format not in FORMATS:
            raise ConfigError(f'format "{self.format}" is unknown', hint=f"one of {', '.join(FORMATS)}")
        if self.format == "ort" and PROVIDERS[self.provider].compiles:
            raise ConfigError(
                f'format "ort" holds operators of the CPU, which provider {self.provider} does not compile',
                hint='set format = "onnx", or provider = "cpu" or "xnnpack"',
            )

    @property
    def toolchain(self) -> str:
        """The environment to compile in, where this one's build of ONNX Runtime lacks the provider."""
        provider = PROVIDERS[self.provider]
        return provider.toolchain if provider.toolchain and not is_installed(provider) else ""

    @property
    def emulated(self) -> bool:
        """Whether what runs here is a simulator of the provider's processor: numbers count, times do not."""
        return self.provider == "qnn" and simulates_qnn()

    def elsewhere(self, device: Device) -> str:
        """Says why the artifact cannot run on `device`; empty where it can, or where something is to be installed."""
        return obstacle(PROVIDERS[self.provider], device)

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        require("onnxruntime", self.extra)
        from edgewright.targets._ort_refusal import refusals

        return tuple(refusals(graph))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.targets._ort_schemes import schemes_on

        return schemes_on(self.provider, device, self.provider_options)

    def precisions(self, device: Device) -> Mapping[str, str]:
        from edgewright.targets._ort_schemes import precisions_on

        return precisions_on(self.provider, device, self.provider_options)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.onnx` or `model.ort`, and `artifact.json`.

        Raises:
            ToolchainMissing: ONNX Runtime is not installed, or the provider is not in it or cannot be loaded.
            StepFailed: It cannot run the model; or it breaks the scheme that its plan names; or
                `strict` and a node does not run as planned.
        """
        ort = require("onnxruntime", self.extra)
        from edgewright.graph.load import save
        from edgewright.graph.unshare import unshare
        from edgewright.targets import _ort_format
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient

        hub = read_hub(inputs["model"])
        require_obedient(hub.model, hub.plan)
        if self._entries(hub).get(PRECISE) == "1":
            unshare(hub.model.graph)
        _without_notes(save(hub.model, out))
        context.progress(0.3, "proving placement")
        data = inputs.get("data")
        made = _ort_format.convert(ort, out, self._entries(hub), hub, data) if self.format == "ort" else None
        self._describe(hub, out, data, made)

    def _describe(self, hub: Hub, out: Path, data: Path | None, made: Converted | None) -> None:
        from edgewright.targets import _judge
        from edgewright.targets._hub import inference_precision
        from edgewright.targets._intent import intents
        from edgewright.targets._ort_range import runtime_range

        ort = require("onnxruntime", self.extra)
        entries, opsets = self._entries(hub), hub.model.opset_imports
        wanted = intents(hub.model, hub.plan, inference_precision(self.precision, hub.plan.hints))
        proven = self._prove(ort, out, (hub, wanted), data, made)
        placement = _judge.judged(hub.model, proven.placement, wanted)
        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=ort.__version__,
            runtime_range=runtime_range(
                ort.__version__, made.opsets if made else opsets, hub.model.ir_version, provider=self.provider
            ),
            files=_files(out, made.extras if made else ()),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision=_judge.main_precision(hub.model, placement) if placement else _planned(wanted),
            session=entries,
            placement=placement,
            extras=made.extras if made else (),
            proof=(*(made.proof if made else ()), *proven.sentences),
            unproven=proven.unproven,
        )
        _judge.write_artifact(artifact, out, strict=self.strict)

    def _prove(
        self, ort: Any, out: Path, graph: tuple[Hub, Mapping[str, Intent]], data: Path | None, made: Converted | None
    ) -> Proven:
        from edgewright.targets import _ort_format, _ort_proof
        from edgewright.targets._feed import feeds
        from edgewright.targets._ort_assigned import Proven, prove_anyhow

        hub, wanted = graph
        entries = self._entries(hub)
        if self.provider != "cpu":
            return prove_anyhow(ort, out, (hub, wanted), entries, lambda: feeds(hub.inputs, data))
        file = out / (_ort_format.FILE if made else MODEL_FILE)
        return Proven(tuple(_ort_proof.prove(ort, file, hub, entries, feeds(hub.inputs, data))))

    def _entries(self, hub: Hub) -> dict[str, str]:
        from edgewright.graph.custom import libraries
        from edgewright.graph.qdq import read_plan
        from edgewright.graph.saturation import predict
        from edgewright.graph.schemes.onnxruntime import ALL

        scheme = next((scheme for scheme in ALL if scheme.name == hub.plan.scheme), None)
        hinted = hub.plan.hints.get("session", {})
        saturates = self.provider == "cpu" and not all(
            risk.safe for risk in predict(hub.model.graph, read_plan(hub.model.graph))
        )
        options = json.dumps(dict(sorted(self.provider_options.items())))
        native = sorted(place_of(library) for library in libraries(hub.model))
        return {
            **({PRECISE: "1"} if saturates else {}),
            **(scheme.session if scheme else {}),
            **{str(k): str(v) for k, v in hinted.items()},
            **({PROVIDER: self.provider} if self.provider != "cpu" else {}),
            **({OPTIONS: options} if self.provider_options else {}),
            **({LIBRARIES: "\n".join(native)} if native else {}),
            **self.session,
        }


def _files(out: Path, extras: tuple[str, ...]) -> tuple[str, ...]:
    """Lists what was written, the file to open first, libraries last."""
    names = (str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    return tuple(sorted((name for name in names if name not in extras), key=lambda name: ("/" in name, name)))


def _planned(wanted: Mapping[str, Intent]) -> str:
    asked = [intent.precision for intent in wanted.values()]
    return max(sorted(set(asked)), key=asked.count) if asked else "float32"


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
