"""What is written beside the model: the program, the picture of the arena, and `memory.json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgewright.core.codec import encode_json
from edgewright.core.memory import MEMORY_FILE, PICTURE_FILE, Memory
from edgewright.runtimes.tflm import Arena
from edgewright.targets._micro import picture, program
from edgewright.targets._micro.arena import Prediction
from edgewright.targets._micro.boards import Board
from edgewright.targets._micro.build import Built
from edgewright.targets._micro.fit import Fit
from edgewright.targets._micro.planner import Buffer, peak
from edgewright.targets._micro.vela import FOLDER, accelerate

MODEL_FILE = "model.tflite"


def write(
    built: Built, measured: Arena, board: Board | None, reserve_kb: int, accelerator: str, out: Path
) -> tuple[str, ...]:
    """Writes everything beside the model and returns the names of the files.

    Args:
        built: The file and its predictions.
        measured: Arena used here.
        board: To hold it against, or None.
        reserve_kb: RAM kept for the application.
        accelerator: Ethos-U to compile for as well; empty for none.
        out: Folder that holds the model.

    Raises:
        ToolchainMissing: Vela is not installed and an accelerator was asked for.
        StepFailed: Vela cannot compile the model.
    """
    files = program.write(built.graph, built.made.content, built.target.total, out)
    (out / PICTURE_FILE).write_text(picture.draw(built.graph, built.target), encoding="utf-8")
    predicted = accelerate(out / MODEL_FILE, accelerator, out) if accelerator else None
    memory = Memory(
        measured={"total": measured.total, "head": measured.head, "tail": measured.tail},
        predicted={"here": _figures(built.host), "board": _figures(built.target)},
        error=built.host.used / measured.total - 1,
        flash={"total": built.flash.total, **asdict(built.flash), "estimated": True},
        board=_held(Fit(board, built.target, built.flash, reserve_kb << 10)) if board else {},
        peak=tuple(_alive(buffer) for buffer in peak(built.target.buffers)[1]),
        operators=program.operators(built.graph),
        accelerator={} if predicted is None else {**asdict(predicted), "npu_share": predicted.npu_share},
    )
    (out / MEMORY_FILE).write_bytes(encode_json(memory))
    vela = sorted(str(path.relative_to(out)) for path in (out / FOLDER).rglob("*") if path.is_file())
    return (*files, PICTURE_FILE, MEMORY_FILE, *vela)


def _figures(arena: Prediction) -> dict[str, int]:
    return {"total": arena.total, "head": arena.head, "tail": arena.tail, "setup": arena.setup}


def _held(fit: Fit) -> dict[str, Any]:
    return {**asdict(fit.board), "ram_needed": fit.ram, "flash_needed": fit.flash.total, "problems": fit.problems()}


def _alive(buffer: Buffer) -> dict[str, Any]:
    return {"name": buffer.name, "bytes": buffer.size, "offset": buffer.offset, "scratch": buffer.scratch}
