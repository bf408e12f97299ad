"""LiteRT (TensorFlow Lite) on the CPU: float32, int8 and int16 from QuantizeLinear/DequantizeLinear."""

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

    from edgewright.targets._hub import Hub
    from edgewright.targets._tflite.options import Compiled, Options

MODEL_FILE = "model.tflite"
_CHOICES = {"integer_only": ("", "int8", "uint8"), "weights": ("float32", "float16")}
_NO_HALF = 'LiteRT computes {} models in float32 on this processor; weights = "float16" halves the file all the same'


@dataclass(frozen=True, slots=True)
class LiteRtTarget:
    """Compiles to a .tflite file, without TensorFlow, and proves what the XNNPACK delegate takes of it.

    The file has fixed sizes; a free batch axis becomes `batch`, and the runner runs other batches in blocks of it.
    With data, the file holds what an app on a phone needs: class names, normalisation of pixels (TFLite Metadata).

    Attributes:
        strict: Fail when a node does not run as planned.
        batch: Size of a free batch axis.
        integer_only: `int8` or `uint8`: the file takes and gives such integers and every operator computes in
            integers, as NPUs need it; a model that is not quantised throughout is refused, naming the operator.
        weights: `float16` stores float weights in half the size; they are computed with in float32.
        channels_last: The file takes images as [N, H, W, C], as phones have them; the runner transposes.
    """

    name: ClassVar[str] = "litert"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "flatbuffers", "onnx-ir")
    runtime: ClassVar[str] = "litert"
    extra: ClassVar[str] = "litert"

    strict: bool = False
    batch: int = 1
    integer_only: str = ""
    weights: str = "float32"
    channels_last: bool = True

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        from edgewright.targets._litert_refusal import refusals

        return tuple(refusals(graph, self._options()))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.graph.schemes.litert import S8S8, S8S8_FULL

        return (S8S8_FULL,) if self.integer_only else (S8S8,)

    def precisions(self, device: Device) -> Mapping[str, str]:
        return {"float32": "", "float16": _NO_HALF.format("float16"), "bfloat16": _NO_HALF.format("bfloat16")}

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.tflite` and `artifact.json`.

        Raises:
            ToolchainMissing: LiteRT is not installed.
            ConfigError: A field has a value that it cannot take.
            StepFailed: An operator is not supported (named with its node) or a size is not fixed; the model breaks the
                scheme that its plan names; or `strict` and a node does not run as planned.
        """
        require("ai_edge_litert.interpreter", self.extra)
        from edgewright.targets import _litert_metadata as metadata
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient
        from edgewright.targets._tflite.compile import compile_model

        hub = read_hub(inputs["model"])
        self._require_fixed_sizes(hub.model)
        require_obedient(hub.model, hub.plan)
        said = metadata.facts(hub.inputs, hub.outputs, inputs.get("data"))
        made = compile_model(hub.model, hub.plan, replace(self._options(), metadata=metadata.entries(said)))
        (out / MODEL_FILE).write_bytes(metadata.packed(made.content, said))
        context.progress(0.5, "proving placement")
        self._describe(made, hub, out, inputs.get("data"))

    def _require_fixed_sizes(self, model: onnx_ir.Model) -> None:
        from edgewright.targets._litert_refusal import free_axes

        free = tuple(free_axes(model))
        if free:
            hint = "export the model with fixed sizes, all but the batch, e.g. the sequence length of your data"
            raise StepFailed("LiteRT: " + "; ".join(free), hint=hint)

    def _options(self) -> Options:
        from edgewright.targets._tflite.options import Options

        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                choices = ", ".join(f'"{choice}"' for choice in known)
                raise ConfigError(f'litert: {name} = "{getattr(self, name)}" is unknown', hint=f"one of {choices}")
        if self.batch < 1:
            raise ConfigError(f"litert: batch = {self.batch}, at least 1 expected", hint="leave it out for 1")
        return Options(self.batch, self.integer_only, self.weights, self.channels_last)

    def _describe(self, made: Compiled, hub: Hub, out: Path, data: Path | None) -> None:
        from importlib.metadata import version

        from edgewright.targets import _judge, _litert_proof
        from edgewright.targets._feed import feeds
        from edgewright.targets._intent import intents

        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=version("ai-edge-litert"),
            runtime_range=runtime_range(version("ai-edge-litert")),
            files=(MODEL_FILE,),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision="",
            session=_litert_proof.session(made),
        )
        proven = _litert_proof.prove(artifact, out / MODEL_FILE, hub, made.trace, feeds(hub.inputs, data))
        placement = _judge.judged(hub.model, proven, intents(hub.model, hub.plan, "float32"))
        _judge.write_artifact(_litert_proof.finished(artifact, hub, placement), out, strict=self.strict)


def runtime_range(version: str) -> str:
    """Later releases read older files; two major versions ahead is as far as that is promised here."""
    major = int(version.split(".", maxsplit=1)[0])
    return f">={major}.0,<{major + 2}"


plugin = LiteRtTarget
