"""Latency, load time, memory, size and energy of an artifact, interleaved with the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.measurement import Ratio, Timing
from edgewright.core.step import Context
from edgewright.core.telemetry import Log
from edgewright.measure._conditions import conditions, load_average
from edgewright.measure._host import Relay
from edgewright.measure._lease import lease
from edgewright.measure._rounds import Side, alone, interleave, summary
from edgewright.measure._samples import run_inputs, save_inputs
from edgewright.measure._telemetry import Watch, energy_mj, summarise, throttle_note
from edgewright.runtimes import load_artifact

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
    """

    name: ClassVar[str] = "time"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("numpy",)

    threads: int = 1
    batch: int = 1
    max_seconds: float = 20.0
    target_width: float = 0.05
    split: str = "tune"

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        """See `edgewright.core.step.Step`.

        Raises:
            StepFailed: A process that holds an artifact died; the message ends with its log.
        """
        batches = run_inputs(load_artifact(inputs["artifact"]), inputs["data"], self.split, self.batch)
        with tempfile.TemporaryDirectory(dir=context.scratch) as folder, lease("local", context):
            timing = self._timed(inputs, save_inputs(batches, Path(folder)), context)
        (out / TIMING).write_bytes(encode_json(timing))

    def _timed(self, inputs: Mapping[str, Path], samples: list[Path], context: Context) -> Timing:
        artifact, other = inputs["artifact"], inputs.get("reference")
        load = load_average()
        with ExitStack() as stack:
            watch = stack.enter_context(Watch())
            relay = stack.enter_context(Relay(artifact, samples, self.threads))
            candidate = reference = Side(relay)
            candidate.warm_up()
            if other is None or other.resolve() == artifact.resolve():
                ratio, note = alone(candidate), "the reference itself"
            else:
                reference = Side(stack.enter_context(Relay(other, samples, self.threads)))
                reference.warm_up()
                ratio, note = self._compared(candidate, reference, context)
            relay.finish()
            log = watch.finish()
        latency, telemetry = summary(candidate.milliseconds), summarise(log)
        energy, covers = _energy(candidate, relay.energy_note, log)
        return Timing(
            latency_ms=latency,
            reference_ms=summary(reference.milliseconds),
            speedup=ratio,
            throughput=self.batch * 1000.0 / latency.p50,
            load_ms=median(relay.load_ms),
            size_bytes=size_bytes(artifact),
            peak_memory_bytes=max(relay.peak_memory_bytes),
            energy_mj=energy,
            energy_note=covers,
            conditions=conditions(
                threads=self.threads,
                batch=self.batch,
                load=load,
                rounds=len(candidate.blocks),
                warmup=candidate.warmup,
                note="; ".join(filter(None, (note, throttle_note(telemetry)))),
                telemetry=telemetry,
            ),
        )

    def _compared(self, candidate: Side, reference: Side, context: Context) -> tuple[Ratio, str]:
        return interleave(
            candidate, reference, width=self.target_width, seconds=self.max_seconds, progress=context.progress
        )


def _energy(side: Side, counters: str, log: Log) -> tuple[float | None, str]:
    """Returns millijoules per run and what they cover: by counters where there are, else by the sampled power."""
    if side.energy_mj is not None:
        return side.energy_mj, counters
    spans = [block.span for block in side.blocks if block.span is not None]
    sampled = energy_mj(log, spans, len(side.milliseconds))
    return (None, counters) if sampled is None else (sampled, f"sampled power of {log.power_source}")


def size_bytes(artifact: Path) -> int:
    """Returns the bytes of the files an artifact ships, external data included, its description left out."""
    return sum((artifact / name).stat().st_size for name in load_artifact(artifact).files)


plugin = Time
