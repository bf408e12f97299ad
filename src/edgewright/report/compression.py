"""How a pipeline compressed a model, stage by stage: what training, pruning and sparsifying left behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgewright.core.codec import decode_stored
from edgewright.core.pruning import PRUNING_FILE, Pruning
from edgewright.core.recipe import Candidate, StepSpec, Study
from edgewright.core.step import StepRecord
from edgewright.core.target import Plan
from edgewright.core.training import TRAINING_FILE, History
from edgewright.report import training_figures
from edgewright.report.evidence import Evidence
from edgewright.report.sparse import Sparse, sparse
from edgewright.search import wording

if TYPE_CHECKING:
    from edgewright.graph.sparsity import LayerSparsity

T = TypeVar("T")
MOST = 4
"""Candidates of one target that are shown."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass of a recipe.

    Attributes:
        title: The pass with its fields.
        did: What it did, in words.
        quality: Of the candidate whose recipe ends here; empty where none was tried.
        seconds: How long it took; None where it is not known.
        history: How its training went.
        pruning: What it removed.
    """

    title: str
    did: str
    quality: str
    seconds: float | None
    history: History | None = None
    pruning: Pruning | None = None


@dataclass(frozen=True, slots=True)
class Compression:
    """The section of one candidate.

    Attributes:
        id: Of the candidate.
        title: Of its recipe.
        winner: Chosen for its target.
        verdict: Of the candidate.
        stages: In order.
        sparse: Zeros among its weights, and what they bring; None where its weights are dense.
        figures: Kind -> figure for the page's script.
        captions: Kind -> what the figure shows.
        fixed: Layers that could not be pruned, and why.
    """

    id: str
    title: str
    winner: bool
    verdict: str
    stages: tuple[Stage, ...]
    sparse: Sparse | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[tuple[str, str], ...] = ()


def compressions(study: Study, target: str, evidence: Evidence) -> tuple[Compression, ...]:
    """Returns a section for each candidate of `target` that was trained, pruned or sparsified, the winner first."""
    winner = study.winners.get(target)
    ordered = sorted(study.of_target(target), key=lambda candidate: candidate.id != winner)
    found = (compression(study, candidate, evidence) for candidate in ordered)
    return tuple(each for each in found if each is not None)[:MOST]


def compression(study: Study, candidate: Candidate, evidence: Evidence) -> Compression | None:
    """Returns the section of one candidate; None where no pass trained, pruned or sparsified."""
    records = dict(_records(candidate))
    if not any(_compresses(spec, records.get(i), evidence) for i, spec in enumerate(candidate.recipe.passes)):
        return None
    stages = tuple(_stage(study, candidate, i, records.get(i), evidence) for i in range(len(candidate.recipe.passes)))
    zeros = sparse(study, candidate, evidence)
    figures, captions = _figures(stages, zeros.layers if zeros else ())
    fixed = tuple(dict.fromkeys(pair for stage in stages if stage.pruning for pair in stage.pruning.fixed))
    winner = candidate.id == study.winners.get(candidate.target)
    return Compression(
        candidate.id, candidate.recipe.title, winner, candidate.verdict, stages, zeros, figures, captions, fixed
    )


def _records(candidate: Candidate) -> Iterator[tuple[int, StepRecord]]:
    """Yields index of a pass -> record of its step; a lineage also names steps that only gathered figures."""
    rest = iter(candidate.lineage)
    for index, spec in enumerate(candidate.recipe.passes):
        record = next((record for record in rest if record.step == spec.name), None)
        if record is None:
            return
        yield index, record


def _compresses(spec: StepSpec, record: StepRecord | None, evidence: Evidence) -> bool:
    folder = None if record is None else evidence.made(record)
    files = () if folder is None else (TRAINING_FILE, PRUNING_FILE)
    return spec.name == "sparsify" or any(folder is not None and (folder / name).is_file() for name in files)


def _stage(study: Study, candidate: Candidate, index: int, record: StepRecord | None, evidence: Evidence) -> Stage:
    spec = candidate.recipe.passes[index]
    folder = None if record is None else evidence.made(record)
    history, pruning = _stored(folder, TRAINING_FILE, History), _stored(folder, PRUNING_FILE, Pruning)
    sparsified = _sparsified(_stored(folder, "plan.json", Plan), spec)
    did = "; ".join(text for text in (_pruned(pruning), sparsified, _trained(history), _held_out(history)) if text)
    quality = _tried(study, candidate, index)
    return Stage(str(spec), did, quality, None if record is None else record.seconds, history, pruning)


def _stored(folder: Path | None, name: str, kind: type[T]) -> T | None:
    """Reads a file of a step; one of another release is as good as none."""
    if folder is None or not (folder / name).is_file():
        return None
    try:
        return decode_stored(kind, (folder / name).read_bytes())
    except ValueError:
        return None


def _pruned(found: Pruning | None) -> str:
    if found is None:
        return ""
    before, after = sum(g.before for g in found.groups), sum(g.after for g in found.groups)
    parts = [f"{before} channels and heads in {wording.plural(len(found.groups), 'group')} became {after}"]
    parts.append(f"multiply-accumulates {found.macs:.0%}, weights {found.parameters:.0%} of what they were")
    if found.predicted is not None:
        parts.append(f"latency predicted at {found.predicted:.0%}")
    return ", ".join(parts)


def _sparsified(plan: Plan | None, spec: StepSpec) -> str:
    found = plan.hints.get("sparsity") if plan is not None and spec.name == "sparsify" else None
    if found is None:
        return ""
    dense = f", {wording.plural(len(found['dense']), 'layer')} left dense" if found["dense"] else ""
    return f"{found['share']:.0%} of the weights zero in {wording.plural(len(found['layers']), 'layer')}{dense}"


def _trained(found: History | None) -> str:
    if found is None:
        return ""
    kept = "kept the weights it began with" if found.best < 0 else f"kept epoch {found.best + 1}"
    text = f"{wording.plural(len(found.epochs), 'epoch')} on {found.samples} samples ({found.accelerator}), {kept}"
    return f"{text}, ended early: {found.stopped}" if found.stopped else text


def _held_out(found: History | None) -> str:
    """Says how the score of a training moved; what it trained to is not what the budget is judged on."""
    if found is None or found.start is None:
        return ""
    scores = [found.start, *(epoch.score for epoch in found.epochs)]
    kept = scores[found.best + 1]
    if kept is None:
        return ""
    show = training_figures.score_text
    return f"{found.title} {show(found.title, found.start)} to {show(found.title, kept)} on {found.held_out} held out"


def _tried(study: Study, candidate: Candidate, index: int) -> str:
    """Says the quality of the candidate whose recipe ends after this stage, where it was measured."""
    passes = candidate.recipe.passes[: index + 1]
    for other in study.of_target(candidate.target):
        same = other.recipe.passes == passes and (other.threads, other.batch) == (candidate.threads, candidate.batch)
        if same and other.measurement is not None:
            figure = other.measurement.tune.figures[0]
            shown = wording.quality(figure.value, wording.figure_is_share(figure))
            timing = other.measurement.timing
            speed = f", {wording.speed(timing.speedup.value)}" if timing else ""
            return f"{figure.metric} {shown} on {figure.split}{speed}"
    return ""


def _figures(stages: Sequence[Stage], layers: Sequence[LayerSparsity]) -> tuple[dict[str, Any], dict[str, str]]:
    histories = [(stage.title, stage.history) for stage in stages if stage.history is not None]
    found = training_figures.curves(histories)
    groups = [group for stage in stages if stage.pruning for group in stage.pruning.groups]
    if groups:
        found["widths"] = ("Channels before and after pruning", training_figures.widths(groups))
    if layers:
        found["zeros"] = ("Zeros among the weights of each layer", training_figures.zeros(layers))
    return {kind: figure for kind, (_, figure) in found.items()}, {kind: text for kind, (text, _) in found.items()}
