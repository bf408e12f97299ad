"""The memory section of the report: every figure with how it was come by."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from edgewright.core.codec import encode_json
from edgewright.core.data import Sample
from edgewright.core.memory import MEMORY_FILE, PICTURE_FILE, Memory
from edgewright.core.recipe import Candidate, Recipe
from edgewright.report.memory import memory

CANDIDATE = Candidate("micro/int8/t1/b1", "micro", Recipe("int8", ()), 1, 1)
FOUND = Memory(
    measured={"total": 24272, "head": 16000, "tail": 8272},
    predicted={
        "here": {"total": 24272, "head": 16000, "tail": 8272, "setup": 9936},
        "board": {"total": 22800, "head": 16000, "tail": 6796, "setup": 8000},
    },
    error=0.0,
    flash={"total": 102400, "model": 44752, "kernels": {}, "runtime": 28672, "estimated": True},
    board={
        "title": "any <Cortex-M4>",
        "ram_needed": 28944,
        "ram_bytes": 65536,
        "flash_needed": 102400,
        "flash_bytes": 262144,
        "problems": [],
    },
    peak=({"name": "conv/out", "bytes": 8000, "offset": 0, "scratch": False},),
    operators=("CONV_2D",),
)
VELA = {
    "accelerator": "ethos-u55-128", "npu_operators": 39, "cpu_operators": 1, "npu_share": 39 / 40, "sram_bytes": 22192,
    "cycles": 89900, "milliseconds": 0.18, "clock_mhz": 500.0,
}  # fmt: skip


@dataclass
class Kept:
    folder: Path | None
    rate: int | None = None

    def file(self, candidate: Candidate, name: str) -> Path | None:
        return self.folder if name == "artifact" else None

    def sample(self, split: str, id: str) -> Sample | None:
        return None


def test_no_section_without_the_evidence(tmp_path: Path) -> None:
    assert memory(CANDIDATE, Kept(None)) is None
    assert memory(CANDIDATE, Kept(tmp_path)) is None


def test_figures_say_how_they_were_come_by(tmp_path: Path) -> None:
    (tmp_path / MEMORY_FILE).write_bytes(encode_json(dataclasses.replace(FOUND, accelerator=VELA)))
    (tmp_path / PICTURE_FILE).write_text("<svg/>")
    view = memory(CANDIDATE, Kept(tmp_path))
    assert view is not None
    how = {figure.title: (figure.value, figure.how) for figure in view.figures}
    assert how["Arena in the interpreter here (64-bit)"] == ("23.7 KB", "measured")
    assert how["Arena on a 32-bit board, reference kernels"] == ("22.3 KB", "predicted")
    assert how["Flash: model, kernels and runtime"] == ("100.0 KB", "estimated")
    assert how["RAM of any <Cortex-M4>"] == ("28.3 KB of 64.0 KB: fits", "predicted")
    assert how["Operators on ethos-u55-128"] == ("39 of 40 (98%)", "predicted by Vela")
    assert how["its cycles per inference"] == ("89,900 (0.18 ms at 500 MHz)", "predicted by Vela")
    assert view.peak == (("conv/out", "7.8 KB"),)
    assert view.picture.startswith("data:image/svg+xml;base64,")


def test_a_board_too_small_is_said(tmp_path: Path) -> None:
    small = dataclasses.replace(FOUND, board={**FOUND.board, "problems": ["does not fit"]})
    (tmp_path / MEMORY_FILE).write_bytes(encode_json(small))
    view = memory(CANDIDATE, Kept(tmp_path))
    assert view is not None
    assert [f.value for f in view.figures if f.title.startswith("RAM of")] == ["28.3 KB of 64.0 KB: does not fit"]
    assert not view.picture
