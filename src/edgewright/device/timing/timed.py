"""One artifact beside another, from fresh processes to a `Timing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from edgewright.core.measurement import Ratio, Timing
from edgewright.core.telemetry import Log
from edgewright.device.power.keeping import restore_left_over
from edgewright.device.power.sweep import in_mode
from edgewright.device.timing.conditions import conditions, load_average
from edgewright.device.timing.hosts import Block, Relay
from edgewright.device.timing.rounds import Side, alone, interleave, summary
from edgewright.device.timing.telemetry import Watch, energy_mj, summarise, throttle_note
from edgewright.runtimes import load_artifact


@dataclass(frozen=True, slots=True)
class Question:
    """How to time.

    Attributes:
        threads: Intra-operator threads.
        batch: Samples per run; the samples given are batches of this size.
        max_seconds: Limit of the interleaved part.
        target_width: Width of the ratio's 95% interval, relative to the ratio, at which timing stops.
        session: Options of the runtime on top of those of the artifact; the reference keeps its own.
        power_mode: Mode or governor that the device is held in meanwhile; empty to leave it alone.
    """

    threads: int = 1
    batch: int = 1
    max_seconds: float = 20.0
    target_width: float = 0.05
    session: Mapping[str, str] = field(default_factory=dict)
    power_mode: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """A block of each side, taken one after the other; without a reference the artifact was timed alone."""

    candidate: Block
    reference: Block | None = None


Record = Callable[[Round], None]


def time_artifact(
    artifact: Path,
    reference: Path | None,
    samples: Sequence[Path],
    question: Question,
    progress: Callable[[float, str], None],
    *,
    earlier: Sequence[Round] = (),
    record: Record = lambda found: None,
) -> Timing:
    """Times an artifact on this machine, in turn with a reference; the caller holds the lease.

    Args:
        artifact: Its folder.
        reference: What every ratio compares with; None to time the artifact alone, with a ratio of 1.
        samples: `.npz` files, each a batch.
        question: See `Question`.
        progress: Told after every round.
        earlier: Rounds of the same measurement that was interrupted: they count, and are not taken again.
        record: Told every new round when it is complete.

    Raises:
        UsageError: The device has no such power mode.
        StepFailed: A process that holds an artifact died (the message ends with its log), the device does not take the
            power mode on, or the one that an earlier sweep left behind cannot be put back.
    """
    restore_left_over()
    load = load_average()
    with ExitStack() as stack:
        question = replace(question, power_mode=stack.enter_context(in_mode(question.power_mode)))
        watch = stack.enter_context(Watch())
        relay = stack.enter_context(Relay(artifact, samples, question.threads, question.session))
        candidate = other = Side(relay, blocks=[each.candidate for each in earlier])
        candidate.warm_up()
        if reference is None:
            ratio, note = alone(candidate, lambda block: record(Round(block))), "the reference itself"
        else:
            other = Side(stack.enter_context(Relay(reference, samples, question.threads)))
            other.blocks = [each.reference for each in earlier if each.reference is not None]
            other.warm_up()
            ratio, note = _compared(candidate, other, question, progress, record)
        relay.finish()
        log = watch.finish()
    return _told(artifact, candidate, other, relay, ratio, note, log, load, question)


def _compared(
    candidate: Side, other: Side, question: Question, progress: Callable[[float, str], None], record: Record
) -> tuple[Ratio, str]:
    return interleave(
        candidate,
        other,
        width=question.target_width,
        seconds=question.max_seconds,
        progress=progress,
        record=lambda one, two: record(Round(one, two)),
    )


def _told(
    artifact: Path,
    candidate: Side,
    other: Side,
    relay: Relay,
    ratio: Ratio,
    note: str,
    log: Log,
    load: float,
    question: Question,
) -> Timing:
    latency, telemetry = summary(candidate.milliseconds), summarise(log, question.power_mode)
    energy, covers = _energy(candidate, relay.energy_note, log)
    return Timing(
        latency_ms=latency,
        reference_ms=summary(other.milliseconds),
        speedup=ratio,
        throughput=question.batch * 1000.0 / latency.p50,
        load_ms=median(relay.load_ms),
        size_bytes=size_bytes(artifact),
        peak_memory_bytes=max(relay.peak_memory_bytes),
        energy_mj=energy,
        energy_note=covers,
        conditions=conditions(
            threads=question.threads,
            batch=question.batch,
            load=load,
            rounds=len(candidate.blocks),
            warmup=candidate.warmup,
            note="; ".join(filter(None, (note, throttle_note(telemetry)))),
            telemetry=telemetry,
        ),
    )


def _energy(side: Side, counters: str, log: Log) -> tuple[float | None, str]:
    """Returns millijoules per run and what they cover: by counters where there are, else by the sampled power."""
    if side.energy_mj is not None:
        return side.energy_mj, counters
    sampled = energy_mj(log, [(block.span, len(block.ms)) for block in side.blocks if block.span is not None])
    return (None, counters) if sampled is None else (sampled, f"sampled power of {log.power_source}")


def size_bytes(artifact: Path) -> int:
    """Returns the bytes of the files an artifact ships, external data included, its description left out."""
    return sum((artifact / name).stat().st_size for name in load_artifact(artifact).files)
