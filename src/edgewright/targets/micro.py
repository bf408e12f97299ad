"""TensorFlow Lite Micro on microcontrollers: int8 models in a fixed arena, with the program that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.measurement import Device
from edgewright.core.step import Context
from edgewright.core.target import Artifact, Scheme
from edgewright.errors import ConfigError

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.targets._hub import Hub
    from edgewright.targets._micro.boards import Board
    from edgewright.targets._micro.build import Built

MODEL_FILE = "model.tflite"
_FORMS = ("auto", "int8", "float32")


@dataclass(frozen=True, slots=True)
class MicroTarget:
    """Compiles to a .tflite file for TensorFlow Lite Micro, runs it in its interpreter, and writes a C++ program.

    What the model needs of a board is predicted before anything is made, and a model that does not fit is refused
    with the figures. Beside the model lie its C array, a `main.cc` that registers the operators used and no others,
    a picture of the arena and `memory.json`. Times measured here are those of this machine, not of the board.

    Attributes:
        strict: Fail when a node does not run as planned.
        board: Name of a board (see `docs/how-to/microcontroller.md`); empty for none.
        ram_kb: RAM of a board of your own, in KB, or less than the named board has; 0 for the board's.
        flash_kb: Likewise its flash.
        reserve_kb: RAM that the rest of the application needs, in KB.
        integer_only: `int8` makes the file take and give int8, `float32` keeps what the model declares; `auto` takes
            int8 where every operator computes in integers.
        accelerator: Also compile for an Ethos-U, e.g. `ethos-u55-128`; empty for the board's, `none` for none.
        batch: Size of a free batch axis.
    """

    name: ClassVar[str] = "micro"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("tflite-micro", "ethos-u-vela", "ai-edge-litert", "flatbuffers", "onnx-ir")
    runtime: ClassVar[str] = "tflm"
    extra: ClassVar[str] = "micro"
    emulated: ClassVar[bool] = True

    strict: bool = False
    board: str = ""
    ram_kb: int = 0
    flash_kb: int = 0
    reserve_kb: int = 0
    integer_only: str = "auto"
    accelerator: str = ""
    batch: int = 1

    def refuses(self, graph: onnx_ir.Model) -> tuple[str, ...]:
        from edgewright.targets._micro.refusal import refusals

        return tuple(refusals(graph, self.batch, self._board(), self.reserve_kb))

    def schemes(self, device: Device) -> tuple[Scheme, ...]:
        from edgewright.graph.schemes.litert import S8S8_FULL

        return (S8S8_FULL,)

    def precisions(self, device: Device) -> Mapping[str, str]:
        return {"float32": ""}

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """Writes the model, its program, `memory.json`, `arena.svg` and `artifact.json`.

        Raises:
            ToolchainMissing: tflite-micro (or Vela, for an accelerator) is not installed.
            ConfigError: A field has a value that it cannot take.
            StepFailed: An operator has no kernel (named with its node); the model does not fit the board; or `strict`
                and a node does not run as planned.
        """
        from edgewright.targets._hub import read_hub
        from edgewright.targets._judge import require_obedient
        from edgewright.targets._micro import build
        from edgewright.targets._micro.evidence import write

        form, board = self._form(), self._board()
        hub = read_hub(inputs["model"])
        require_obedient(hub.model, hub.plan)
        built = build.compiled(hub, form, self.batch)
        build.require_fit(built, board, self.reserve_kb)
        context.progress(0.3, "running it in the interpreter")
        (out / MODEL_FILE).write_bytes(built.made.content)
        artifact = self._artifact(hub, built)
        measured = build.measured(built, artifact, hub, inputs.get("data"))
        context.progress(0.7, "writing the program")
        files = write(built, measured, board, self.reserve_kb, self._accelerator(board), out)
        self._describe(artifact, files, hub, built, out)

    def _artifact(self, hub: Hub, built: Built) -> Artifact:
        from importlib.metadata import version

        from edgewright.targets import _litert_proof

        return Artifact(
            target=self.name,
            runtime=self.runtime,
            runtime_version=version("tflite-micro"),
            runtime_range=">=0.dev0",
            files=(MODEL_FILE,),
            inputs=hub.inputs,
            outputs=hub.outputs,
            precision="",
            session=_litert_proof.session(built.made),
        )

    def _describe(self, artifact: Artifact, files: tuple[str, ...], hub: Hub, built: Built, out: Path) -> None:
        import dataclasses

        from edgewright.targets import _judge, _litert_proof
        from edgewright.targets._intent import intents
        from edgewright.targets._micro.build import placement

        found = _judge.judged(hub.model, placement(hub, built), intents(hub.model, hub.plan, "float32"))
        described = dataclasses.replace(artifact, extras=files)
        _judge.write_artifact(_litert_proof.finished(described, hub, found), out, strict=self.strict)

    def _form(self) -> str:
        if self.integer_only not in _FORMS:
            raise ConfigError(
                f'micro: integer_only = "{self.integer_only}" is unknown', hint=f"one of {', '.join(_FORMS)}"
            )
        if self.batch < 1:
            raise ConfigError(f"micro: batch = {self.batch}, at least 1 expected", hint="leave it out for 1")
        return self.integer_only

    def _board(self) -> Board | None:
        from edgewright.targets._micro.boards import chosen

        return chosen(self.board, self.ram_kb, self.flash_kb)

    def _accelerator(self, board: Board | None) -> str:
        from edgewright.targets._micro.boards import ACCELERATORS

        wanted = self.accelerator or (board.ethos_u if board else "")
        if wanted not in ("", "none", *ACCELERATORS):
            raise ConfigError(f'micro: accelerator "{wanted}" is unknown', hint=f"one of {', '.join(ACCELERATORS)}")
        return "" if wanted == "none" else wanted


plugin = MicroTarget
