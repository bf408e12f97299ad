"""What a tuning found out: its trials, the best of them, the Pareto front. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright.core.recipe import FAILED, REFUSED, Candidate, StepSpec
from edgewright.search import pareto

QUALITY, SPEED, BOTH = "quality", "speed", "both"
OBJECTIVES = (QUALITY, SPEED, BOTH)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial came to: what the shared storage keeps of its candidate.

    Attributes:
        passes: Of the recipe, every value filled in.
        verdict: As the search gave it: `met`, `broke budget`, `failed`.
        quality: The judged metric on `tune`; None where the trial failed.
        speedup: Over the original, timed in turn; None where it was not timed.
        speedup_low: Lower end of the 95% interval.
        speedup_high: Upper end of it.
        size_bytes: Of the artifact.
        quality_excess: Sum of how far limits on quality are broken, each relative to the limit.
        cost_excess: The same for all other limits.
        broken: The limits, in words.
        machine: Name of the machine that ran it.
        seconds: It took.
        error: Why it failed.
    """

    passes: tuple[StepSpec, ...]
    verdict: str
    quality: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    size_bytes: int | None = None
    quality_excess: float = 0.0
    cost_excess: float = 0.0
    broken: tuple[str, ...] = ()
    machine: str = ""
    seconds: float = 0.0
    error: str = ""

    @property
    def inside(self) -> bool:
        """True where it was judged and breaks no limit."""
        return self.quality is not None and not self.broken


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial of the study.

    Attributes:
        number: In the study.
        state: `complete`, `running`, `waiting` or `failed`.
        values: Parameter -> value.
        outcome: None while it runs, and where its worker ended without a word.
        retry_of: Number of the trial whose worker ended; None for a first try.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    outcome: Outcome | None = None
    retry_of: int | None = None


@dataclass(frozen=True, slots=True)
class Tuning:
    """Everything a tuning found out; `tuning.json`.

    Attributes:
        schema: Version of this layout.
        project: Name of the project.
        study: Name of the study in its storage.
        subject: Title of the recipe, or `training`.
        target: Label of the target.
        objective: `quality`, `speed` or `both`.
        metric: The judged one.
        higher_is_better: Its direction.
        baseline: The original's quality on `tune`.
        parameters: Names, in order.
        trials: In order of their numbers.
        best: Number of the best trial; None where none was judged.
        front: Numbers of the trials that no other beats in both quality and speed, the fastest first.
        importance: Parameter -> share of what changed the objective; empty where there are too few trials.
    """

    schema: int
    project: str
    study: str
    subject: str
    target: str
    objective: str
    metric: str
    higher_is_better: bool
    baseline: float
    parameters: tuple[str, ...]
    trials: tuple[Tried, ...]
    best: int | None = None
    front: tuple[int, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)

    def trial(self, number: int) -> Tried:
        """Returns the trial with this number."""
        return next(trial for trial in self.trials if trial.number == number)

    @property
    def judged(self) -> tuple[Tried, ...]:
        """Trials with a quality."""
        return tuple(t for t in self.trials if t.outcome is not None and t.outcome.quality is not None)


def outcome_of(candidate: Candidate, machine: str, seconds: float) -> Outcome:
    """Returns what is kept of a candidate."""
    start = Outcome(candidate.recipe.passes, candidate.verdict, machine=machine, seconds=seconds)
    measured = candidate.measurement
    if measured is None or candidate.verdict in (FAILED, REFUSED):
        return replace(start, error=(candidate.error or candidate.why).splitlines()[0])
    ratio = measured.timing.speedup if measured.timing else None
    kinds = {about: [v for v in candidate.violations if v.about_quality is about] for about in (True, False)}
    return replace(
        start,
        quality=measured.tune.figures[0].value,
        speedup=ratio.value if ratio else None,
        speedup_low=ratio.low if ratio else None,
        speedup_high=ratio.high if ratio else None,
        size_bytes=measured.size,
        quality_excess=sum(min(v.severity, _MOST) for v in kinds[True]),
        cost_excess=sum(min(v.severity, _MOST) for v in kinds[False]),
        broken=tuple(map(str, candidate.violations)),
    )


_MOST = 1e6
"""Stands for infinity, which JSON does not know."""


def goals(outcome: Outcome, objective: str, sign: float) -> tuple[float, ...]:
    """Returns what is maximised.

    Args:
        outcome: Judged.
        objective: `quality`, `speed` or `both`.
        sign: -1 where less of the metric is better.
    """
    assert outcome.quality is not None
    quality, speed = sign * outcome.quality, outcome.speedup or 0.0
    return {QUALITY: (quality,), SPEED: (speed,), BOTH: (quality, speed)}[objective]


def excess(outcome: Outcome, objective: str) -> float:
    """Returns how far the limits are broken that the objective has to keep; 0 inside all of them."""
    return outcome.quality_excess + outcome.cost_excess if objective != BOTH else 0.0


def concluded(tuning: Tuning) -> Tuning:
    """Returns `tuning` with its best trial and its front."""
    sign = 1.0 if tuning.higher_is_better else -1.0
    judged = [(t.number, t.outcome) for t in tuning.trials if t.outcome is not None and t.outcome.quality is not None]
    if not judged:
        return replace(tuning, best=None, front=())
    points = [(-(o.speedup or 0.0), -sign * (o.quality or 0.0)) for _, o in judged]
    front = sorted((judged[i] for i in pareto.nondominated(points)), key=lambda each: -(each[1].speedup or 0.0))
    best = max(judged, key=lambda each: _rank(each[1], tuning.objective, sign))
    return replace(tuning, best=best[0], front=tuple(number for number, _ in front))


def _rank(outcome: Outcome, objective: str, sign: float) -> tuple[float, ...]:
    """Inside the budget first; of those outside, the nearest. Quality breaks ties of speed and the other way round."""
    quality, speed = goals(outcome, BOTH, sign)
    order = (speed, quality) if objective == SPEED else (quality, speed)
    return (-(outcome.quality_excess + outcome.cost_excess), *order)


def finished(trials: Sequence[Tried]) -> int:
    """Returns how many trials have come to something; one whose worker ended is tried again and does not count."""
    return sum(trial.outcome is not None and trial.state in ("complete", "failed") for trial in trials)
