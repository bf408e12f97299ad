"""From evidence to a diagnosis: every rule is asked, suspects are weighed by what their stage lost. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from edgewright.core.parity import POSTPROCESSING, PREPROCESSING, STAGES, Diagnosis, Suspect
from edgewright.measure.why import fixes
from edgewright.measure.why.evidence import Evidence
from edgewright.measure.why.rules import RULES
from edgewright.measure.why.thresholds import THRESHOLDS, Thresholds

_LEAST = 0.02


def input_convention(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """The candidate's input is prepared otherwise than it expects."""
    project = evidence.paths.get("deployed") or evidence.paths.get("project", "")
    for rank, found in enumerate(evidence.conventions):
        fix = fixes.amend(project, {"preprocess": [dict(table) for table in found.preprocess]})
        score = found.strength * 0.9**rank
        yield Suspect(PREPROCESSING, found.cause, "", "", score, found.evidence, fix)


def label_order(evidence: Evidence, thresholds: Thresholds) -> Iterator[Suspect]:
    """Outputs stand for other classes than their names say."""
    found = evidence.labels
    if found is not None:
        project = evidence.paths.get("deployed") or evidence.paths.get("project", "")
        fix = fixes.amend(project, {"labels": list(found.labels)})
        yield Suspect(POSTPROCESSING, "label order", "", "", found.strength, found.evidence, fix)


def diagnose(evidence: Evidence, thresholds: Thresholds = THRESHOLDS) -> Diagnosis:
    """Returns the suspects, the likeliest first, and the stage of the first.

    Args:
        evidence: From `gather`.
        thresholds: See there.
    """
    suspects = [found for rule in (*RULES, input_convention, label_order) for found in rule(evidence, thresholds)]
    weighed = [replace(s, score=round(s.score * _lost(evidence, s.stage, thresholds), 4)) for s in suspects]
    kept = sorted((s for s in weighed if s.score > _LEAST), key=lambda s: (-s.score, STAGES.index(s.stage)))
    stages = {stage: evidence.stages[stage] for stage in STAGES if stage in evidence.stages}
    return Diagnosis(_stage(kept, stages, thresholds), tuple(kept), stages)


def _lost(evidence: Evidence, stage: str, thresholds: Thresholds) -> float:
    """Returns how much of the blame a stage can carry: 1 where it loses most, less where another loses more."""
    own = evidence.stages.get(stage, 0.0)
    if stage not in (PREPROCESSING, POSTPROCESSING) and (evidence.labels is not None or _explained(evidence)):
        return 0.3
    worst = min((v for s, v in evidence.stages.items()), default=0.0)
    if own > 2 * thresholds.stage_db:
        return 0.1
    behind = max(own - worst, 0.0)
    return 1.0 if behind < 1.0 else max(0.35, 1.0 - behind / 20)


def _explained(evidence: Evidence) -> bool:
    """Says whether another convention of the input makes the outputs alike, without a project of its own."""
    return not evidence.paths.get("deployed") and any(c.strength > 0.75 for c in evidence.conventions)


_WEAK = 0.1
"""Below this score a suspect does not make a healthy candidate one that lost accuracy."""


def _stage(suspects: list[Suspect], stages: dict[str, float], thresholds: Thresholds) -> str:
    worst = min(stages, key=lambda stage: stages[stage], default="")
    lost = bool(worst) and stages[worst] < thresholds.stage_db
    if suspects and (lost or suspects[0].score >= _WEAK):
        return suspects[0].stage
    return worst if lost else ""
