"""One row of text per candidate: what the terminal and the HTML tables both show."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.measurement import Measurement, Quality, Timing
from edgewright.core.recipe import BROKE, DOMINATED, FAILED, MET, REFUSED, Candidate, Study
from edgewright.report import telemetry
from edgewright.search import wording

ABSENT = "-"
UNPROVEN = "unproven"
STYLES = {MET: "green", BROKE: "red", DOMINATED: "yellow", FAILED: "bold red", REFUSED: "dim", "reference": "cyan"}
"""Verdict -> how a terminal shows it."""


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one candidate, with units; `-` where nothing was measured.

    Attributes:
        id: Of the candidate.
        title: Recipe, with threads and batch where they vary.
        precision: INT8, BF16...
        verdict: Of the candidate; `reference` for the original.
        winner: Chosen for its target.
        front: On the Pareto front of its target.
        split: Which split quality and drop were measured on.
        quality: First metric.
        quality_interval: 95%.
        samples: Behind the quality.
        drop: Paired difference to the original; negative is worse (for a metric where higher is better).
        drop_interval: 95%, paired.
        changed: Share of decisions that changed.
        p50: Median latency.
        p95: 95th percentile.
        speedup: Over the original in the same interleaved run.
        speedup_interval: 95%.
        throughput: At p50.
        load: Open to first result, fresh process.
        size: Of the files that ship.
        memory: Peak of a fresh process.
        energy: Per run, or why it is absent.
        basis: measured, emulated, predicted, or unproven where it does not run here.
        device: Whose figures they are.
        stand_in: Who predicted the quality; empty where the artifact itself was scored.
        conditions: Threads, batch, rounds, governor, temperature and load of the timing.
        why: One sentence.
    """

    id: str
    title: str
    precision: str
    verdict: str
    winner: bool
    front: bool
    split: str
    quality: str
    quality_interval: str
    samples: str
    drop: str
    drop_interval: str
    changed: str
    p50: str
    p95: str
    speedup: str
    speedup_interval: str
    throughput: str
    load: str
    size: str
    memory: str
    energy: str
    basis: str
    device: str
    stand_in: str
    conditions: str
    why: str


def rows(study: Study, target: str) -> tuple[Row, ...]:
    """Returns the reference, then the candidates of `target` in the order tried."""
    candidates = study.of_target(target)
    reference = row(study, study.reference, (study.reference,))
    mine = (row(study, c, candidates) for c in candidates if c.id != study.reference.id)
    return (reference, *mine)


def row(study: Study, candidate: Candidate, among: tuple[Candidate, ...]) -> Row:
    """Returns the figures of one candidate; `among` decides whether its name carries threads and batch."""
    is_reference = candidate.id == study.reference.id
    title = wording.title(candidate, among)
    return Row(
        id=candidate.id,
        title=_reference_title(title, candidate.target) if is_reference else title,
        precision=wording.precision(candidate.precision) or ABSENT,
        verdict="reference" if is_reference else candidate.verdict,
        winner=study.winners.get(candidate.target) == candidate.id,
        front=candidate.id in study.fronts.get(candidate.target, ()),
        why=candidate.why,
        **_quality(study, candidate.measurement, is_reference),
        **_cost(study, candidate.measurement),
    )


def _reference_title(title: str, target: str) -> str:
    return f"{title} ({target})" if title == "original" else f"{title} (original, {target})"


def reported(measurement: Measurement) -> Quality:
    """Returns the quality a reader should look at: on `test` where it was measured, else on `tune`."""
    return measurement.test or measurement.tune


def _quality(study: Study, measurement: Measurement | None, is_reference: bool) -> dict[str, str]:
    names = ("split", "quality", "quality_interval", "samples", "drop", "drop_interval", "changed")
    if measurement is None:
        return dict.fromkeys(names, ABSENT)
    quality = reported(measurement)
    figure = quality.figures[0]
    share = wording.figure_is_share(figure)
    found = {
        "split": figure.split,
        "quality": wording.quality(figure.value, share),
        "quality_interval": f"{wording.quality(figure.low, share)} to {wording.quality(figure.high, share)}",
        "samples": str(figure.samples),
        "changed": ABSENT if is_reference else wording.share(quality.changed_share),
    }
    drop, interval = (ABSENT, ABSENT) if is_reference else _drop(study, measurement, share)
    return {**found, "drop": drop, "drop_interval": interval}


def _drop(study: Study, measurement: Measurement, share: bool) -> tuple[str, str]:
    quality = reported(measurement)
    if quality.difference:
        paired = quality.difference[0]
        low, high = wording.difference(paired.low, share), wording.difference(paired.high, share)
        return wording.difference(paired.value, share), f"{low.removesuffix(' points')} to {high}"
    baseline = study.reference.measurement
    same = baseline and (baseline.test if quality is measurement.test else baseline.tune)
    if not same:
        return ABSENT, ABSENT
    return wording.difference(quality.figures[0].value - same.figures[0].value, share), "not paired"


def _cost(study: Study, measurement: Measurement | None) -> dict[str, str]:
    if measurement is None:
        return {**_timing(None), "device": study.device.name, "stand_in": ""}
    found = {**_timing(measurement.timing), "device": measurement.device.name, "stand_in": measurement.tune.stand_in}
    if measurement.timing is None and measurement.size is not None:
        found["size"] = wording.size(measurement.size)
    return found | ({"basis": UNPROVEN} if measurement.tune.stand_in else {})


def _timing(timing: Timing | None) -> dict[str, str]:
    names = (
        *("p50", "p95", "speedup", "speedup_interval", "throughput", "load"),
        *("size", "memory", "energy", "basis", "conditions"),
    )
    if timing is None:
        return dict.fromkeys(names, ABSENT) | {"basis": "not timed", "conditions": "not timed"}
    ratio = timing.speedup
    return {
        "p50": wording.milliseconds(timing.latency_ms.p50),
        "p95": wording.milliseconds(timing.latency_ms.p95),
        "speedup": wording.speed(ratio.value),
        "speedup_interval": f"{ratio.low:.2f} to {ratio.high:.2f}",
        "throughput": f"{timing.throughput:.3g}/s" if timing.throughput < 100 else f"{timing.throughput:.0f}/s",
        "load": wording.milliseconds(timing.load_ms),
        "size": wording.size(timing.size_bytes),
        "memory": wording.size(timing.peak_memory_bytes),
        "energy": f"{timing.energy_mj:.3g} mJ" if timing.energy_mj is not None else f"absent: {timing.energy_note}",
        "basis": timing.basis,
        "conditions": conditions(timing),
    }


def conditions(timing: Timing) -> str:
    """Says in one line under which conditions a timing was made."""
    state = timing.conditions
    parts = [
        wording.plural(state.threads, "thread"),
        f"batch {state.batch}",
        f"{wording.plural(state.rounds, 'interleaved round')}, {timing.latency_ms.count} runs after "
        f"{state.warmup} warm-up",
        f"governor {state.governor}" if state.governor else "governor unknown",
        f"{state.temperature_c:.0f} C" if state.temperature_c is not None else "temperature unknown",
        f"load {state.load:.2f}",
    ]
    watched = telemetry.words(state.telemetry)
    return "; ".join(part for part in (", ".join(parts), watched, state.note) if part)
