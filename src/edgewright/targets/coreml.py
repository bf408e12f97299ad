"""Core ML, through PyTorch: an ML program in a .mlpackage, proven here as far as that goes without macOS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Plan, Scheme
from edgewright.errors import ConfigError, StepFailed
from edgewright.runtimes._coremltools import require_coremltools

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._coreml.convert import Converted
    from edgewright.targets._coreml.image import Image
    from edgewright.targets._coreml.options import Options
    from edgewright.targets._hub import Hub

_UNPROVEN = "prediction on macOS: run `python prove_on_mac.py` there, it lies in the artifact's folder"
_LOSSY = 'quality with weights = "{}": a prediction by the model itself has its own weights, `prove_on_mac.py` these'
_NOT_HALF = "Core ML has no bfloat16"


@dataclass(frozen=True, slots=True)
class CoreMlTarget:
    """Makes an ML program (.mlpackage) of fixed sizes; quantisers of the model become those of Core ML, scale by scale.

    The package is read back, its weights are decoded and compared with the model's. Prediction needs macOS: a script
    in the artifact proves it there.

    Attributes:
        strict: Fail when the program asks for another precision than the plan.
        precision: `auto` follows the plan's `inference_precision`; else `float32` or `float16`.
        weights: `plan` stores them as the model does; `int8` rounds float ones, one scale per channel;
            `palettised1`, `2`, `3`, `4`, `6`, `8` store numbers of so many bits into a table per tensor.
        compute_units: Which processors Core ML may use: `ALL`, `CPU_ONLY`, `CPU_AND_GPU`, `CPU_AND_NE`.
        minimum: Oldest system that opens it, `iOS15` to `iOS18`, `iOS26`, or `macOS12`...; `auto` takes the oldest
            from iOS16 on that has what the model needs.
        image: The package takes pictures and normalises them inside, as the project's `[[preprocess]]` says.
        batch: Size of a free batch axis.
    """

    name: ClassVar[str] = "coreml"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("coremltools", "onnx-ir", "torch")
    runtime: ClassVar[str] = "coreml"
    extra: ClassVar[str] = "coreml"

    strict: bool = False
    precision: str = "auto"
    weights: str = "plan"
    compute_units: str = "ALL"
    minimum: str = "auto"
    image: bool = False
    batch: int = 1

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        from edgewright.graph.names import name_nodes
        from edgewright.targets._coreml.refusal import refusals

        named = graph.clone()
        name_nodes(named.graph)
        return tuple(refusals(named, self._options(named, Plan(""))))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.graph.schemes.coreml import S8S8

        return (S8S8,)

    def precisions(self, device: Device) -> Mapping[str, str]:
        return {"float32": "", "float16": "", "bfloat16": _NOT_HALF}

    def elsewhere(self, device: Device) -> str:
        """Returns why what this target makes does not run on `device`, "" on a Mac."""
        return "" if device.system.startswith("Darwin") else "Core ML predicts on macOS only"

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.mlpackage`, `artifact.json`, and `prove_on_mac.py` with what it needs.

        Raises:
            ToolchainMissing: coremltools is not installed.
            ConfigError: A field has a value that it cannot take.
            StepFailed: The model cannot be converted, the reason named before or by the converter; the package says
                something else than the model; it breaks the scheme that its plan names; or `strict` and the program
                asks for another precision than the plan.
        """
        coremltools = require_coremltools()
        from edgewright.targets._coreml.package import write_package
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient

        hub = read_hub(inputs["model"])
        options = self._options(hub.model, hub.plan)
        self._refuse(hub, options)
        require_obedient(hub.model, hub.plan)
        images = self._images(hub, inputs.get("data"))
        made = self._converted(coremltools, hub, options, images)
        context.progress(0.6, "reading the package back")
        files = write_package(made.mlmodel, out)
        self._describe(made, hub, options, images, files, out, inputs.get("data"))

    def _options(self, model: onnx_ir.Model, plan: Plan) -> Options:
        from edgewright.targets._coreml import options as known
        from edgewright.targets._coreml.halves import in_halves, kept_in_float
        from edgewright.targets._hub import AUTO, inference_precision

        choices = {
            "weights": known.WEIGHTS,
            "compute_units": known.COMPUTE_UNITS,
            "minimum": ("auto", *known.MINIMUMS),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f'coreml: {name} = "{getattr(self, name)}" is unknown', hint=f"one of {', '.join(allowed)}"
                )
        if self.batch < 1:
            raise ConfigError(f"coreml: batch = {self.batch}, at least 1 expected", hint="leave it out for 1")
        precision = inference_precision(self.precision, plan.hints)
        if self.precision == AUTO and in_halves(model):
            precision = "float16"
        if precision == "bfloat16":
            raise ConfigError(f"coreml: {_NOT_HALF}", hint='precision = "float16" or "float32"')
        found = known.Options(precision, self.weights, self._minimum(model), self.batch, kept_in_float(model))
        if self.weights != known.PLAN and found.release < known.CONSTEXPR:
            raise ConfigError(
                f'coreml: weights = "{self.weights}" needs iOS16, minimum is {self.minimum}',
                hint='minimum = "iOS16" or newer, or leave it out',
            )
        return found

    def _minimum(self, model: onnx_ir.Model) -> str:
        from edgewright.graph.qdq import is_quantised

        if self.minimum != "auto":
            return self.minimum
        return "iOS17" if is_quantised(model.graph) else "iOS16"

    def _refuse(self, hub: Hub, options: Options) -> None:
        from edgewright.targets._coreml.refusal import refusals

        reasons = tuple(refusals(hub.model, options))
        if reasons:
            raise StepFailed(
                f"Core ML cannot take the model: {'; '.join(reasons[:5])}",
                hint="clean up or export the model again without these, or leave this target out",
            )

    def _images(self, hub: Hub, data: Path | None) -> dict[str, Image]:
        if not self.image:
            return {}
        from edgewright.targets._coreml.image import image_of

        return image_of(hub.inputs, data)

    def _converted(self, coremltools: Any, hub: Hub, options: Options, images: Mapping[str, Image]) -> Converted:
        from dataclasses import replace

        from edgewright.targets._coreml import compress
        from edgewright.targets._coreml.convert import convert
        from edgewright.targets._coreml.options import INT8, PALETTES

        model = compress.round_weights(hub.model) if options.weights == INT8 else hub.model
        made = convert(coremltools, model, options, images)
        if options.weights in PALETTES:
            return replace(made, mlmodel=compress.palettise(coremltools, made.mlmodel, options.weights))
        return made

    def _describe(
        self,
        made: Converted,
        hub: Hub,
        options: Options,
        images: Mapping[str, Image],
        files: tuple[str, ...],
        out: Path,
        data: Path | None,
    ) -> None:
        from importlib.metadata import version

        from edgewright.targets import _judge
        from edgewright.targets._coreml import border, golden
        from edgewright.targets._coreml.placement import placement
        from edgewright.targets._coreml.program import read_program
        from edgewright.targets._coreml.proof import prove
        from edgewright.targets._intent import intents

        program = read_program(out)
        prepared = made.prepared
        said = prove(program, prepared.model, made.sources, (prepared.inputs, prepared.outputs), options.weights)
        arrays = golden.golden(prepared, hub.inputs, images, data)
        placed = placement(program, made.sources)
        judged = _judge.judged(hub.model, placed, intents(hub.model, hub.plan, options.precision))
        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=version("coremltools"),
            runtime_range=f">={version('coremltools')}",
            files=files,
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision=_judge.main_precision(hub.model, judged),
            session=border.session(prepared, hub, images, self.compute_units),
            placement=judged,
            extras=golden.write_golden(arrays, out),
            proof=(f"made for {options.minimum} by coremltools {version('coremltools')}", *said),
            unproven=(_UNPROVEN, *([] if options.weights == "plan" else [_LOSSY.format(options.weights)])),
        )
        _judge.write_artifact(artifact, out, strict=self.strict)


plugin = CoreMlTarget
