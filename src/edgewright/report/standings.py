"""The targets' winners beside the best of all, as text: what a user of one runtime alone gives away."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.recipe import Standing, Study
from edgewright.report.rows import ABSENT, row
from edgewright.search import pareto, wording

_WORDS = {
    pareto.LATENCY: "the speed",
    pareto.THROUGHPUT: "the throughput",
    pareto.SIZE: "smaller by",
    pareto.MEMORY: "less memory by",
    pareto.ENERGY: "less energy by",
}
_BY_SPEED = (pareto.LATENCY, pareto.THROUGHPUT)


@dataclass(frozen=True, slots=True)
class StandingRow:
    """One target in words and figures.

    Attributes:
        target: Its name.
        title: Its winner.
        quality: Of that, on the split that is reported.
        change: Against the original.
        speedup: Over the original.
        advantage: How many times better the best of all is; `the best` for that itself.
        interval: 95%, empty where it has no width.
        basis: How that is known.
        met: Whether the winner meets the budget.
        share: Of the best one's objective that this reaches, 0 to 1: the length of a bar.
    """

    target: str
    title: str
    quality: str
    change: str
    speedup: str
    advantage: str
    interval: str
    basis: str
    met: bool
    share: float


def standing_rows(study: Study) -> tuple[StandingRow, ...]:
    """Returns a row per target, the best first; empty where the study compares none."""
    return tuple(_row(study, standing) for standing in study.standings)


def headline(study: Study) -> str:
    """Says in one sentence what the best of all gains over every runtime alone; empty with nothing to compare."""
    if not study.standings:
        return ""
    best, others = study.standings[0], study.standings[1:]
    return f"{best.target} is the best: {'; '.join(_gain(study, s) for s in others)}"


def _row(study: Study, standing: Standing) -> StandingRow:
    candidate = study.candidate(standing.candidate)
    found = row(study, candidate, study.of_target(standing.target))
    ratio = standing.advantage
    is_best = standing is study.standings[0]
    return StandingRow(
        target=standing.target,
        title=found.title,
        quality=found.quality,
        change=found.drop,
        speedup=found.speedup,
        advantage="the best" if is_best else wording.speed(ratio.value),
        interval="" if is_best or ratio.low == ratio.high else f"{ratio.low:.2f} to {ratio.high:.2f}",
        basis=ABSENT if is_best else standing.basis,
        met=standing.met,
        share=min(1.0, 1.0 / ratio.value) if ratio.value > 0 else 0.0,
    )


def _gain(study: Study, standing: Standing) -> str:
    ratio, word = standing.advantage, _WORDS[study.objective]
    times = wording.speed(ratio.value)
    gain = f"{times} {word} of" if study.objective in _BY_SPEED else f"{word} {times} than"
    level = ", a difference within the noise" if ratio.low < 1.0 <= ratio.high else ""
    broke = ", whose best breaks the budget" if not standing.met else ""
    return f"{gain} {standing.target}{level}{broke}"
