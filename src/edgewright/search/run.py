"""The search: profile first, then the cheapest technique, each step validated, until the budget is met."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from edgewright.core.measurement import Device
from edgewright.core.recipe import Candidate, Study, TargetSpec
from edgewright.core.variant import adds_in_32_bits
from edgewright.engine import registry, toolchain
from edgewright.engine.execute import Executor
from edgewright.measure.audit import Audit
from edgewright.search.explain import annotate
from edgewright.search.finish import finish
from edgewright.search.imported import Imported
from edgewright.search.ladder import ladder
from edgewright.search.observer import Observer, Silent
from edgewright.search.opening import open_search
from edgewright.search.request import Request
from edgewright.search.rungs import Facts, Rung
from edgewright.search.trial import Trials

STUDY_SCHEMA = 1
Save = Callable[[Study], None]


def search(
    request: Request, executor: Executor, *, observer: Observer | None = None, save: Save | None = None
) -> Study:
    """Answers `request`.

    Args:
        request: The question.
        executor: Runs and caches the steps.
        observer: Told what happens.
        save: Called with the study so far after every candidate, so that nothing found is lost.

    Raises:
        EdgewrightError: The model, the data, a metric, a toolchain or the disk is at fault.
    """
    return _Search(request, executor, observer or Silent(), save or (lambda study: None)).run()


class _Search:
    def __init__(self, request: Request, executor: Executor, observer: Observer, save: Save) -> None:
        self.request = request
        self.executor = executor
        self.observer = observer
        self.save = save
        self.threads = request.search.threads[0]
        self.batch = request.search.batch[0]
        self.expected = 0

    def run(self) -> Study:
        opened = open_search(self.request, self.executor, self.observer)
        trials = opened.trials
        self.study = self._begin(opened.found, opened.reference, opened.audit)
        for target in self.request.targets:
            self._climb(trials, target, opened.facts)
            self._sweep_options(trials, target)
        self.study = annotate(self.study)
        self.observer.phase("test split")
        self.study = finish(self.study, trials, self.request)
        self.save(self.study)
        return self.study

    def _begin(self, found: Imported, reference: Candidate, audit: Audit) -> Study:
        distributions = {name for record in reference.lineage for name in record.tools}
        return Study(
            schema=STUDY_SCHEMA,
            project=self.request.project,
            device=self.executor.device,
            inputs=found.inputs,
            outputs=found.outputs,
            budget=self.request.budget,
            objective=self.request.search.objective,
            reference=reference,
            candidates=(),
            warnings=audit.warnings,
            tools=toolchain.versions({*distributions, "edgewright", "numpy"}),
            labels=audit.labels,
            source={**self.request.origin, **found.summary()},
            strict=self.request.search.strict,
        )

    def _climb(self, trials: Trials, target: TargetSpec, facts: Facts) -> None:
        """Climbs the ladder for one target, then tries the user's own recipes."""
        self.observer.phase(f"search for {target.label}")
        step = registry.make("targets", target.step)
        device = self._measured_on(trials, target)
        facts = replace(facts, refusals={target.step.name: facts.refusals.get(target.label, ())})
        schemes, precisions = step.schemes(device), step.precisions(device)  # type: ignore[attr-defined]
        self.expected = len(schemes) + len(precisions) + len(self.request.recipes) + 2
        wanted = self.request.search.ladder
        measure = partial(trials.sensitivity, target=target) if not wanted or "mixed" in wanted else None
        rungs = ladder(target.step, facts, schemes, precisions, measure, safe_8_bits=adds_in_32_bits(device))
        rung = next(rungs, None)
        while rung is not None:
            skipped = bool(wanted) and rung.name not in wanted and rung.name != "float"
            candidate = Candidate("", target.label, rung.recipe, self.threads, self.batch) if skipped else None
            candidate = candidate or self._try(trials, rung, target)
            if not skipped and self._may_stop(candidate):
                return
            try:
                rung = rungs.send(candidate)
            except StopIteration:
                rung = None
        for recipe in self.request.recipes:
            if self._may_stop(self._try(trials, Rung("own", recipe, target.step), target)):
                return

    def _measured_on(self, trials: Trials, target: TargetSpec) -> Device:
        """Returns the machine that measures `target`, and puts it into the study where it is another one."""
        device = trials.place(target).device
        if target.device:
            self.study = replace(self.study, devices={**self.study.devices, target.label: device})
        return device

    def _try(self, trials: Trials, rung: Rung, target: TargetSpec) -> Candidate:
        index = len(self.study.of_target(target.label)) + 1
        self.observer.candidate_started(rung.recipe.title, target.label, index, max(index, self.expected))
        candidate = trials.run(rung, target, self.threads, self.batch)
        return self._add(replace(candidate, notes=rung.notes))

    def _add(self, candidate: Candidate) -> Candidate:
        self.study = replace(self.study, candidates=(*self.study.candidates, candidate))
        self.observer.candidate_finished(candidate)
        self.save(annotate(self.study))
        return candidate

    def _may_stop(self, candidate: Candidate) -> bool:
        judged = candidate.measurement is not None and not candidate.violations
        return judged and self.request.search.stops_when_met(self.request.budget)

    def _sweep_options(self, trials: Trials, target: TargetSpec) -> None:
        """Times the best candidate so far with the other thread counts and batch sizes."""
        best = annotate(self.study).winners.get(target.label)
        if best is None:
            return
        chosen = self.study.candidate(best)
        if chosen.measurement is None or chosen.measurement.timing is None:
            return
        artifact = trials.compile(target.step, trials.apply(chosen.recipe, target))
        pairs = itertools.product(self.request.search.threads, self.request.search.batch)
        others = [pair for pair in pairs if pair != (self.threads, self.batch)]
        for index, (threads, batch) in enumerate(others, start=1):
            title = f"{chosen.recipe.title}, {threads} threads, batch {batch}"
            self.observer.candidate_started(title, target.label, index, len(others))
            self._add(trials.retime(chosen, artifact, target, threads, batch))
