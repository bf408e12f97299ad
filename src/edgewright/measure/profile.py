"""Time per operator of an artifact, as its runtime reports it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import RunOptions
from edgewright.measure._decisions import run_size
from edgewright.measure._samples import run_inputs
from edgewright.measure.devices import open_on
from edgewright.runtimes import load_artifact

OPERATORS = "operators.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """Runs an artifact with profiling on and writes `operators.json` (list of `OperatorTime`).

    Inputs: `artifact`, `data`. Profiling slows a run down: shares of the total mean more than the microseconds.

    Attributes:
        threads: Intra-operator threads.
        runs: Profiled runs; each operator's time is the median.
        split: Where the samples come from.
        device: Address of the machine to profile on; this one by default.
    """

    name: ClassVar[str] = "profile"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    threads: int = 1
    runs: int = 20
    split: str = "tune"
    device: str = ""

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`."""
        artifact = load_artifact(inputs["artifact"])
        batches = run_inputs(artifact, inputs["data"], self.split, run_size(artifact.inputs, 1))
        options = RunOptions(threads=self.threads, profile=True)
        opened = open_on(self.device, inputs["artifact"], options, exclusive=True, progress=context.progress)
        with opened as runner:
            for count, batch in enumerate(islice(cycle(batches), self.runs), start=1):
                runner.run(batch)
                context.progress(count / self.runs, f"run {count} of {self.runs}")
            times = runner.operator_times()
        (out / OPERATORS).write_bytes(encode_json(times))


plugin = Profile
