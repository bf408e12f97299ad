"""Latency, load time, memory, size and energy of an artifact, interleaved with the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.measurement import Timing
from edgewright.core.step import Context
from edgewright.device.timing.timed import Question, size_bytes, time_artifact
from edgewright.measure._samples import run_inputs, save_inputs
from edgewright.measure.devices import connect
from edgewright.runtimes import load_artifact
from edgewright.runtimes._lease import lease

__all__ = ["TIMING", "Time", "size_bytes"]

TIMING = "timing.json"


@dataclass(frozen=True, slots=True)
class Time:
    """Times an artifact in a fresh process, in turn with the reference in another, and writes `timing.json`.

    Inputs: `artifact`, `data`, and `reference`, the artifact every ratio compares with; without it, or when it is the
    same folder, one process is timed and the ratio is 1. Both get the same threads and the same samples.

    Attributes:
        threads: Intra-operator threads.
        batch: Samples per run.
        max_seconds: Limit of the interleaved part.
        target_width: Width of the ratio's 95% interval, relative to the ratio, at which timing stops.
        split: Where the samples come from.
        device: Address of the machine to time on; this one by default.
    """

    name: ClassVar[str] = "time"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    threads: int = 1
    batch: int = 1
    max_seconds: float = 20.0
    target_width: float = 0.05
    split: str = "tune"
    device: str = ""

    @property
    def question(self) -> Question:
        """What is asked of whoever times it."""
        return Question(self.threads, self.batch, self.max_seconds, self.target_width)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            StepFailed: A process that holds an artifact died; the message ends with its log.
        """
        batches = run_inputs(load_artifact(inputs["artifact"]), inputs["data"], self.split, self.batch)
        artifact, reference = inputs["artifact"], inputs.get("reference")
        if reference is not None and reference.resolve() == artifact.resolve():
            reference = None
        with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
            timing = self._timed(artifact, reference, save_inputs(batches, Path(folder)), context)
        (out / TIMING).write_bytes(encode_json(timing))

    def _timed(self, artifact: Path, reference: Path | None, samples: list[Path], context: Context) -> Timing:
        if self.device:
            with connect(self.device, progress=context.progress) as device:
                return device.time(artifact, reference, samples, self.question)
        with lease("local", context.progress):
            return time_artifact(artifact, reference, samples, self.question, context.progress)


plugin = Time
