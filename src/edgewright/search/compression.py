"""Compression while training: the rungs behind post-training quantisation. Pure.

A generator like the ladder. A network is made smaller (pruned, replaced by a student, thinned out), recovers from the
original model, is judged in float, then in INT8, and only what INT8 still loses is trained with quantisation in the
loop. Pruning goes on from what the last round reached, towards a goal that is set again by what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.search.repair import Best, Chain
from edgewright.search.request import TrainingConfig
from edgewright.search.rungs import CARRIES_QDQ, CLEAN_UP, Facts, Rung, Trainable

NAMES = ("qat", "prune", "prune+qat", "distill", "sparsify")
"""Names of the rungs, as `[search] ladder` takes them."""
TRAINING_PASSES = ("fine-tune", "distill", "qat")
LEAST_SAMPLES = 200
"""Fewer calibration samples than this teach nothing that lasts."""
AT_ONCE = 0.5
"""One round leaves at least this share of the latency: what is lost at once does not come back."""
_STEP = 0.7
"""A round's goal where the budget names none."""
_MARGIN = 0.97
"""A goal is aimed a little past: the prediction is good to some per cent."""
_GENTLER = 0.8
"""A step that left more than this is not tried more gently."""
_REACHED = 1.03

Rungs = Generator[Rung, Candidate, Candidate]
"""Yields rungs, is sent what came of each, and returns the last one's."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """What came of everything that needs no training.

    Attributes:
        plain: The model in float.
        int8: The best of fast full INT8; None where the target computes no faster in integers.
        met: Something that counts is inside the budget.
    """

    plain: Candidate
    int8: Best | None
    met: bool


def training_rungs(target: StepSpec, facts: Facts, so_far: SoFar) -> Generator[Rung, Candidate, None]:
    """Yields rungs that train, where they are asked for or nothing else met the budget.

    Args:
        target: Its name and fields.
        facts: About the model; `training` says what there is to learn from.
        so_far: What came of everything else.
    """
    training = facts.training
    if training is None or (so_far.met and not training.asked):
        return
    refused = CARRIES_QDQ if facts.quantized else why_not(training)
    if refused:
        name = next(name for name in NAMES if training.wants(name))
        yield Rung(name, Recipe(f"{name} (training)", ()), target, refused=refused)
        return
    climb = _Climb(target, training, so_far)
    yield from climb.qat()
    if training.wants("prune", "prune+qat") and (training.asked or training.limits_cost):
        yield from climb.prune()
    if training.config.student and training.wants("distill"):
        student = StepSpec("student", {"network": training.config.student})
        yield from climb.stages("distill", "distill", (student, recovery(training)), training.config.student)
    if training.config.sparsity is not None or "sparsify" in training.wanted:
        spec = sparsify(training.config)
        yield from climb.stages("sparsify", "sparsify", (spec, recovery(training)), f"sparse {_pattern(spec)}")


def why_not(training: Trainable) -> str:
    """Returns why nothing can be trained; empty where it can."""
    if training.absent or source_of(training) != "calibration":
        return training.absent
    count = training.samples.get("calibration", 0)
    if count >= LEAST_SAMPLES:
        return ""
    few = f"[data.calibration] has {count} samples only, at least {LEAST_SAMPLES} are needed to train without labels"
    return f"nothing to learn from: there is no [data.train] or [data.unlabelled], and {few}"


def source_of(training: Trainable) -> str:
    """Returns the splits that training learns from."""
    return " and ".join(name for name in ("train", "unlabelled") if training.samples.get(name)) or "calibration"


def recovery(training: Trainable) -> StepSpec:
    """Returns the pass that brings a changed network back to what the original does."""
    config = training.config
    return StepSpec("distill", _fields(training, config.epochs, config.learning_rate))


def aware(training: Trainable) -> StepSpec:
    """Returns quantisation-aware training."""
    config = training.config
    epochs = config.qat_epochs if config.qat_epochs is not None else max(1, config.epochs // 4)
    return StepSpec("qat", _fields(training, epochs, config.qat_learning_rate))


def _fields(training: Trainable, epochs: int, learning_rate: float | None) -> dict[str, Any]:
    config = training.config
    labels = config.labels if training.labelled else 0.0
    chosen = {"batch": config.batch, "learning_rate": learning_rate, "labels": labels, "limit": config.limit}
    fields: dict[str, Any] = {"epochs": epochs, **{name: value for name, value in chosen.items() if value}}
    return {**fields, "fit": dict(config.fit)} if config.fit else fields


def pruning(config: TrainingConfig, kind: str, share: float, scheme: str = "") -> StepSpec:
    """Returns the pass that prunes.

    Args:
        config: `[training]`.
        kind: `latency` or `size`.
        share: What is left of it, of that of the model given.
        scheme: Latency counts in this quantisation scheme; empty for float.
    """
    chosen = {kind: round(share, 3), "importance": config.importance, "scheme": scheme if kind == "latency" else ""}
    return StepSpec("prune", {name: value for name, value in chosen.items() if value})


def sparsify(config: TrainingConfig) -> StepSpec:
    """Returns the pass that sets weights to zero; 2:4 where the project does not say."""
    if isinstance(config.sparsity, float):
        return StepSpec("sparsify", {"pattern": "unstructured", "sparsity": config.sparsity})
    return StepSpec("sparsify", {"pattern": config.sparsity or "2:4"})


def _pattern(spec: StepSpec) -> str:
    return f"{spec.config['sparsity']:.0%}" if "sparsity" in spec.config else str(spec.config["pattern"])


def pipeline(training: Trainable, chain: Chain | None) -> Recipe:
    """Returns all that the table `[training]` asks for as one recipe, each goal taken as it is written.

    Args:
        training: Its table, and what there is to learn from.
        chain: How the target quantises; None leaves INT8 out.
    """
    config = training.config
    passes: list[StepSpec] = []
    if config.student:
        passes = [StepSpec("student", {"network": config.student})]
    elif config.latency is not None:
        passes = [pruning(config, "latency", config.latency, chain.scheme.name if chain else "")]
    if config.sparsity is not None:
        passes.append(sparsify(config))
    if passes:
        passes.append(recovery(training))
    if chain is None:
        return Recipe("training", (*passes, CLEAN_UP))
    return Recipe("training", (*passes, *replace(chain, after=(aware(training),)).recipe().passes))


def described(config: TrainingConfig) -> tuple[StepSpec, ...]:
    """Returns every pass that `config` may lead to: what is wrong with a field is found by making them."""
    training = Trainable(config, {}, labelled=True)
    student = (StepSpec("student", {"network": config.student}),) if config.student else ()
    passes = (pruning(config, "latency", config.latency or _STEP), recovery(training), aware(training))
    return (*student, *passes, sparsify(config))


@dataclass(slots=True)
class _Climb:
    """State of the rungs that train, for one target."""

    target: StepSpec
    training: Trainable
    so_far: SoFar
    spent: dict[str, float] = field(default_factory=dict)
    trained: set[str] = field(default_factory=set)

    def ask(self, name: str, title: str, passes: Sequence[StepSpec], notes: tuple[str, ...]) -> Rungs:
        """Yields one rung, refused where it would train and the time for that is used up."""
        limit = self.training.config.time_limit
        seconds = sum(self.spent.values())
        last = max(index for index, spec in enumerate(passes) if spec.name in TRAINING_PASSES)
        training = str(Recipe("", tuple(passes[: last + 1])))
        refused = ""
        if limit is not None and seconds >= limit and training not in self.trained:
            refused = f"{seconds:.0f} s of training were spent, time_limit is {limit:.0f} s"
        candidate = yield Rung(name, Recipe(title, tuple(passes)), self.target, refused, notes, tentative=True)
        self.trained.add(training)
        self.spent |= {str(r.key): r.seconds for r in candidate.lineage if r.step in TRAINING_PASSES}
        return candidate

    def qat(self) -> Generator[Rung, Candidate, None]:
        """Recovers full INT8 that is fast and has lost too much."""
        best = self.so_far.int8
        if best is None or not self.training.wants("qat"):
            return
        if breaks_quality(best.candidate) or (best.candidate.measurement is None and "qat" in self.training.wanted):
            recipe = _with_qat(best.chain, aware(self.training)).recipe()
            yield from self.ask("qat", recipe.title, recipe.passes, self._notes())

    def prune(self) -> Generator[Rung, Candidate, None]:
        """Prunes and recovers, round after round, until the cost is met or too much is lost."""
        int8 = self.so_far.int8
        measured = int8 is not None and int8.candidate.measurement is not None
        goal = self._goal(int8.candidate if int8 and measured else self.so_far.plain, 1.0)
        passes: tuple[StepSpec, ...] = ()
        told: tuple[str, ...] = ()
        aimed = 1.0
        for _ in range(self.training.config.rounds):
            if goal is None:
                return
            kind, share = goal[0], max(goal[1], AT_ONCE)
            scheme = int8.chain.scheme.name if int8 and self.training.wants("prune+qat") else ""
            tried = (*passes, pruning(self.training.config, kind, share, scheme), recovery(self.training))
            names = (*told, f"{share:.2f}")
            found = yield from self.stages("prune", "prune+qat", tried, f"{kind} to {' x '.join(names)}")
            if found.measurement is None:
                return
            if breaks_quality(found):
                if breaks_cost(found) or share > _GENTLER:
                    return
                goal = (kind, math.sqrt(share))
            else:
                passes, told, aimed = tried, names, aimed * share
                goal = self._goal(found, self._relative(found) or aimed)

    def stages(self, name: str, quantised: str, passes: tuple[StepSpec, ...], title: str) -> Rungs:
        """Judges a smaller network in float, in INT8, and trained for INT8 where that lost too much.

        Returns:
            What the last of them came to.
        """
        wants = self.training.wants
        told = f"{title}, {self.training.config.epochs} epochs"
        name = name if wants(name) else quantised
        found = yield from self.ask(name, told, (*passes, CLEAN_UP), self._notes())
        int8 = self.so_far.int8
        if found.measurement is None or breaks_quality(found) or int8 is None or not wants(quantised):
            return found
        for chain in (_bare(int8.chain), _with_qat(int8.chain, aware(self.training))):
            recipe = chain.recipe()
            asked = (*passes, *recipe.passes)
            found = yield from self.ask(quantised, f"{told}, {recipe.title}", asked, self._notes())
            if not breaks_quality(found):
                break
        return found

    def _goal(self, found: Candidate, relative: float) -> tuple[str, float] | None:
        """Returns what the next round prunes and to which share; None when there is nothing left to reach.

        Args:
            found: What this far came to.
            relative: Its latency, that of the same model with all its channels being 1.
        """
        times = [v.cost_left for v in found.violations if v.cost_left and not v.limit.endswith("in bytes")]
        sizes = [v.cost_left for v in found.violations if v.cost_left and v.limit.endswith("in bytes")]
        if times or sizes:
            return ("latency", min(times) * _MARGIN) if times else ("size", min(sizes) * _MARGIN)
        wanted = self.training.config.latency
        if wanted is None:
            return ("latency", _STEP) if self.training.asked else None
        if relative <= wanted * _REACHED:
            return None
        return "latency", wanted / relative

    def _relative(self, found: Candidate) -> float:
        """Returns the measured latency relative to the unpruned model in the same precision; 0 where one is unknown."""
        beside = self.so_far.int8.candidate if self.so_far.int8 and found.precision != "float32" else self.so_far.plain
        return _speed(beside) / _speed(found) if _speed(found) else 0.0

    def _notes(self) -> tuple[str, ...]:
        training = self.training
        count = sum(training.samples.get(name, 0) for name in source_of(training).split(" and "))
        how = "labels and the original model" if training.labelled and training.config.labels else "the original model"
        return (f"trained on {count} samples of {source_of(training)}, from {how}",)


def breaks_quality(candidate: Candidate) -> bool:
    """Says whether `candidate` was measured and lost too much."""
    return candidate.measurement is not None and any(v.about_quality for v in candidate.violations)


def breaks_cost(candidate: Candidate) -> bool:
    """Says whether `candidate` was measured and costs too much."""
    return candidate.measurement is not None and any(not v.about_quality for v in candidate.violations)


def _bare(chain: Chain) -> Chain:
    """Returns the chain without repairs of stored weights: they were learnt for another network."""
    repairs = [text for text in chain.done if text.endswith("bias correction") or text == "adaround"]
    return replace(chain, after=(), done=tuple(text for text in chain.done if text not in repairs))


def _with_qat(chain: Chain, spec: StepSpec) -> Chain:
    bare = _bare(chain)
    return replace(bare, after=(spec,), done=(*bare.done, f"{spec.config['epochs']} epochs of QAT"))


def _speed(candidate: Candidate) -> float:
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0
