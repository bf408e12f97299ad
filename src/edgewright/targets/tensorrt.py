"""TensorRT on NVIDIA GPUs: the model, how its engine is built on the device, and the proof that it builds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    from edgewright.targets._tensorrt.export import Wish
    from edgewright.targets._tensorrt.gpus import Gpu
    from edgewright.targets._tensorrt.prove import Proof
    from edgewright.targets._tensorrt.recipe import Recipe

PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class TensorRtTarget:
    """Writes a model that TensorRT reads, and everything that builds its engine on the device, once.

    Types are written into the model: TensorRT 10 and later computes in them and ignores precision flags. For a GPU
    whose newest TensorRT is older, and for DLA, flags are given instead. With the toolchain `tensorrt-rtx` installed
    the model is parsed and built here for the GPU's architecture, and the placement is read off that engine; running it
    needs the GPU.

    Attributes:
        strict: Fail when a node does not run as planned, or when nothing could be proven here.
        gpu: Which one: `jetson-orin-nano`, `rtx-4090`, `t4`, a capability such as `sm_87`; empty for Turing and newer.
        precision: Of what is not computed in integers: `float32`, `float16`, `bfloat16`; `auto` follows the plan, and
            takes float16 beside INT8.
        quantised: What quantised products compute in: `int8`, or `float8` (E4M3, Ada and newer) with the same ranges.
        sparse: Let tensor cores skip half of weights that are 2:4 sparse (Ampere and newer).
        dla: Core of the deep-learning accelerator to run on; -1 for the GPU.
        gpu_fallback: Run on the GPU what the accelerator cannot.
        profiles: Input -> {min, opt, max}: shapes, for inputs with free axes.
        batch: Size of a free batch axis without a profile; the runner runs other batches in blocks of it.
        workspace_mib: Scratch memory that kernels may use, in MiB; 0 for TensorRT's own limit.
    """

    name: ClassVar[str] = "tensorrt"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")
    runtime: ClassVar[str] = "tensorrt"
    extra: ClassVar[str] = "tensorrt"
    proves_with: ClassVar[str] = "tensorrt-rtx"

    strict: bool = False
    gpu: str = ""
    precision: str = "auto"
    quantised: str = "int8"
    sparse: bool = False
    dla: int = -1
    gpu_fallback: bool = True
    profiles: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    batch: int = 1
    workspace_mib: int = 0

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        require("onnx", self.extra)
        from edgewright.targets._tensorrt.refusal import refusals

        return tuple(refusals(graph, self._wish("float32")))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.graph.schemes.tensorrt import S8S8

        return (S8S8,) if self._gpu().native("int8") else ()

    def precisions(self, device: Device) -> Mapping[str, str]:
        gpu = self._gpu()
        return {name: gpu.why_not(name) for name in (*PRECISIONS, "int8")}

    def elsewhere(self, device: Device) -> str:
        """Says why an engine does not run on `device`; a machine that the user named is taken to have a GPU."""
        from edgewright.runtimes.tensorrt import absent

        return absent() if device.name == "local" else ""

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes `model.onnx`, `engine.json`, `build_engine.py`, `trtexec.sh` and `artifact.json`.

        Raises:
            ToolchainMissing: ONNX is not installed.
            ConfigError: The fields do not fit the GPU or the model.
            StepFailed: TensorRT does not read or build the model; it breaks the scheme that its plan names; or `strict`
                and something is not proven, or a node does not run as planned.
        """
        require("onnx", self.extra)
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient
        from edgewright.targets._tensorrt.evidence import require_readable
        from edgewright.targets._tensorrt.export import export

        hub = read_hub(inputs["model"])
        require_obedient(hub.model, hub.plan)
        precision = self._precision(hub)
        written, recipe = export(read_hub(inputs["model"]), self._wish(precision), out)
        require_readable(written.model)
        context.progress(0.3, "building with TensorRT-RTX")
        proof = self._proof(out, context.scratch, written, recipe)
        self._describe(hub, written, recipe, proof, precision, out)

    def _describe(self, hub: Hub, written: Hub, recipe: Recipe, proof: Proof | None, precision: str, out: Path) -> None:
        from edgewright.targets import _judge
        from edgewright.targets._tensorrt import evidence

        placement = evidence.judged(hub, precision, proof.placement if proof else ())
        artifact = Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=proof.version if proof else "",
            runtime_range=evidence.runtime_range(self._gpu(), written_for_flags=self.dla >= 0),
            files=evidence.files(out),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision=evidence.main_precision(hub, self._wish(precision), placement),
            placement=placement,
            extras=evidence.EXTRAS,
            proof=evidence.proven(proof, self._gpu()),
            unproven=evidence.unproven(proof, self._gpu(), self._wish(precision), recipe, written.model),
        )
        _judge.write_artifact(artifact, out, strict=self.strict)

    def _proof(self, out: Path, scratch: Path, written: Hub, recipe: Recipe) -> Proof | None:
        from edgewright.targets._tensorrt import prove

        python = prove.installed()
        if python is None:
            if self.strict:
                raise StepFailed(f"nothing can be proven without the toolchain {prove.TOOLCHAIN}", hint=prove.INSTALL)
            return None
        proof = prove.prove(python, out, scratch, written, prove.architectures(self._gpu()))
        return proof if recipe.typing == "strong" else replace(proof, placement=())

    def _gpu(self) -> Gpu:
        from edgewright.targets._tensorrt.gpus import find_gpu

        return find_gpu(self.gpu)

    def _precision(self, hub: Hub) -> str:
        from edgewright.graph.qdq import is_quantised
        from edgewright.targets._hub import AUTO, inference_precision
        from edgewright.targets._tensorrt.typed import halved

        asked = self.precision
        beside_int8 = is_quantised(hub.model.graph) and "inference_precision" not in hub.plan.hints
        if asked == AUTO and self._gpu().native("float16") and (beside_int8 or halved(hub.model.graph)):
            asked = "float16"
        found = inference_precision(asked, hub.plan.hints)
        if self.precision != AUTO and (why := self._gpu().why_not(found)):
            raise ConfigError(why, hint="set precision to one of those that `gpu` has, or leave it at auto")
        return found

    def _wish(self, precision: str) -> Wish:
        from edgewright.targets._tensorrt.export import Wish

        gpu = self._gpu()
        self._check(gpu)
        return Wish(
            gpu=gpu,
            precision=precision,
            quantised=self.quantised,
            sparse=self.sparse,
            dla=self.dla if self.dla >= 0 else None,
            gpu_fallback=self.gpu_fallback,
            profiles=self.profiles,
            batch=self.batch,
            workspace_mib=self.workspace_mib,
        )

    def _check(self, gpu: Gpu) -> None:
        if self.quantised not in ("int8", "float8"):
            raise ConfigError(f'quantised = "{self.quantised}" is unknown', hint="int8 or float8")
        if self.quantised == "float8" and (why := gpu.why_not("float8")):
            raise ConfigError(why, hint='quantised = "int8", or name a GPU of Ada or newer in `gpu`')
        if self.dla >= max(gpu.dla, 0) and self.dla >= 0:
            cores = f"{gpu.dla} DLA cores" if gpu.dla else "no DLA"
            raise ConfigError(f"dla = {self.dla}: {gpu.name or 'a GPU that is not named'} has {cores}", hint="dla = -1")
        if self.sparse and not gpu.sparse and gpu.name:
            hint = "leave `sparse` out"
            raise ConfigError(
                f"{gpu.name} ({gpu.architecture}) has no tensor cores that skip 2:4 sparse weights", hint=hint
            )
        if self.batch < 1 or self.workspace_mib < 0:
            raise ConfigError("batch must be at least 1, workspace_mib at least 0", hint="batch = 1, workspace_mib = 0")


plugin = TensorRtTarget
