"""Arm's compiler for Ethos-U accelerators: what of a model would run there, how much memory, how many cycles.

All figures are Vela's own estimates; Arm says to take performance from a model of the hardware or from the hardware.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgewright.errors import StepFailed
from edgewright.runtimes._require import require

FOLDER = "ethos-u"
_SECONDS = 600
_KIB = 1024
_SHARES = re.compile(r"(CPU|NPU) operators = (\d+) \(")


@dataclass(frozen=True, slots=True)
class Accelerated:
    """What Vela predicts.

    Attributes:
        accelerator: e.g. `ethos-u55-128`.
        system: Clock and memories it assumes, by Vela's name.
        memory_mode: Where weights and tensors lie, by Vela's name.
        clock_mhz: Assumed clock.
        sram_bytes: Tensors and working memory in SRAM.
        flash_bytes: Weights and commands in off-chip flash.
        dram_bytes: Used of DRAM.
        npu_operators: Operators on the accelerator, counted after Vela has split and joined them.
        cpu_operators: Operators left to the processor.
        cycles: Of one inference.
        milliseconds: The same, at the assumed clock.
        macs: Multiply-accumulates of one inference.
        file: The compiled file, relative to the artifact.
    """

    accelerator: str
    system: str
    memory_mode: str
    clock_mhz: float
    sram_bytes: int
    flash_bytes: int
    dram_bytes: int
    npu_operators: int
    cpu_operators: int
    cycles: int
    milliseconds: float
    macs: int
    file: str
    predicted: bool = True

    @property
    def npu_share(self) -> float:
        """Share of operators on the accelerator."""
        return self.npu_operators / max(self.npu_operators + self.cpu_operators, 1)


def accelerate(model: Path, accelerator: str, out: Path, system: str = "", memory_mode: str = "") -> Accelerated:
    """Compiles a .tflite file for an Ethos-U and returns what Vela predicts; the compiled file stays in `out`.

    Args:
        model: An int8 file.
        accelerator: As Vela calls it.
        out: Folder to write into.
        system: Vela's name of clock and memories; empty for its usual one.
        memory_mode: Vela's name of where data lies; empty for its default.

    Raises:
        ToolchainMissing: Vela is not installed.
        StepFailed: It cannot compile the model.
    """
    require("ethosu.vela", "micro")
    folder = out / FOLDER / accelerator
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--accelerator-config", accelerator, "--output-dir", str(folder)]
    options += ["--system-config", system] if system else []
    options += ["--memory-mode", memory_mode] if memory_mode else []
    command = [sys.executable, "-m", "ethosu.vela", str(model), *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    compiled, summary = folder / f"{model.stem}_vela.tflite", next(folder.glob("*_summary_*.csv"), None)
    if ran.returncode or not compiled.is_file() or summary is None:
        said = " ".join((ran.stderr or ran.stdout).split())[-400:]
        raise StepFailed(
            f"Vela cannot compile {model.name} for {accelerator}: {said}",
            hint='quantise the model to int8 throughout, or leave out accelerator = "..."',
        )
    return _read(accelerator, summary, ran.stdout, str(compiled.relative_to(out)))


def _read(accelerator: str, summary: Path, said: str, file: str) -> Accelerated:
    with summary.open(encoding="utf-8", newline="") as opened:
        row: Mapping[str, str] = list(csv.DictReader(opened))[-1]
    counts = {where: int(count) for where, count in _SHARES.findall(said)}
    return Accelerated(
        accelerator=accelerator,
        system=row["system_config"],
        memory_mode=row["memory_mode"],
        clock_mhz=float(row["core_clock"]) / 1e6,
        sram_bytes=_bytes(row, "sram_memory_used"),
        flash_bytes=_bytes(row, "off_chip_flash_memory_used"),
        dram_bytes=_bytes(row, "dram_memory_used"),
        npu_operators=counts.get("NPU", 0),
        cpu_operators=counts.get("CPU", 0),
        cycles=int(float(row["cycles_total"])),
        milliseconds=float(row["inference_time"]) * 1e3,
        macs=int(float(row["nn_macs"])),
        file=file,
    )


def _bytes(row: Mapping[str, str], column: str) -> int:
    """Vela gives memory in KiB."""
    return round(float(row[column]) * _KIB)
