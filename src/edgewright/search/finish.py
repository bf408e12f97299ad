"""What is done once the winners are known: test split, golden pairs, layer-by-layer evidence, variants per machine."""

from __future__ import annotations

from dataclasses import replace

from edgewright.core.digest import Digest
from edgewright.core.measurement import Quality, Ratio
from edgewright.core.recipe import Candidate, StepSpec, Study, TargetSpec
from edgewright.core.target import Artifact
from edgewright.core.variant import Choice
from edgewright.engine.execute import Result
from edgewright.errors import EdgewrightError
from edgewright.search.request import Request
from edgewright.search.standings import standings
from edgewright.search.trial import Trials, read
from edgewright.search.variants import saturates, variants

PARITY_SAMPLES = 16
"""Samples of the layer-by-layer comparison of a winner with the original."""


def finish(study: Study, trials: Trials, request: Request) -> Study:
    """Returns `study` with everything that only finalists get.

    Args:
        study: Judged: its winners and fronts are known.
        trials: Made it; its reference has been judged.
        request: The question.

    Raises:
        EdgewrightError: A finalist cannot be scored, or the fault lies outside of it.
    """
    return _Finish(study, trials, request).run()


class _Finish:
    def __init__(self, study: Study, trials: Trials, request: Request) -> None:
        self.study = study
        self.trials = trials
        self.request = request
        self.threads = request.search.threads[0]

    def run(self) -> Study:
        assert self.trials.reference is not None
        tested = self.trials.evaluate(self.trials.reference.artifact, "test", self.threads, self.trials.here)
        reference = with_test(self.study.reference, tested)
        choices = {target: self._choices(target) for target in self.study.winners}
        packed = {choice.candidate for found in choices.values() for choice in found} | {*self.study.winners.values()}
        front = {id for ids in self.study.fronts.values() for id in ids}
        updated = tuple(
            self._finalist(c, tested, packed) if c.id in front | packed else c for c in self.study.candidates
        )
        kept = {target: found for target, found in choices.items() if found}
        beside = standings(self.study, self._duel)
        return replace(self.study, reference=reference, candidates=updated, variants=kept, standings=beside)

    def _duel(self, one: Candidate, other: Candidate) -> Ratio:
        place = self.trials.place(self._target(one))
        return self.trials.duel(self._artifact(one), self._artifact(other), one.threads, one.batch, place)

    def _choices(self, target: str) -> tuple[Choice, ...]:
        """Decides which machines run which candidate of `target`."""
        winner = self.study.best(target)
        if winner.measurement is None:
            return ()
        return variants(winner, self.study.of_target(target), safe=self._safe, signed=signed)

    def _safe(self, candidate: Candidate) -> bool:
        return not saturates(read(self._artifact(candidate), "artifact.json", Artifact))

    def _artifact(self, candidate: Candidate) -> Result:
        target = self._target(candidate)
        return self.trials.compile(target.step, self.trials.apply(candidate.recipe, target))

    def _target(self, candidate: Candidate) -> TargetSpec:
        return next(t for t in self.request.targets if t.label == candidate.target)

    def _finalist(self, candidate: Candidate, reference: Result, packed: set[str]) -> Candidate:
        target = self._target(candidate)
        place = self.trials.place(target)
        artifact = self.trials.runnable(self._artifact(candidate), self.trials.apply(candidate.recipe, target), place)
        candidate = with_test(candidate, self.trials.evaluate(artifact, "test", self.threads, place, reference))
        if candidate.id not in packed:
            return candidate
        evidence = {**candidate.evidence, **self._sensitivity(candidate), **self._parity(candidate, artifact)}
        spec = StepSpec(
            "golden", {"count": self.request.golden, "split": "test", "threads": candidate.threads, **place.fields}
        )
        inputs = {"artifact": artifact.as_input(), "data": self.trials.data}
        golden = self.trials.executor.run("measure", spec, inputs, device=place.device)
        return replace(candidate, evidence={**evidence, "golden": golden.digest})

    def _sensitivity(self, candidate: Candidate) -> dict[str, Digest]:
        scheme = scheme_of(candidate)
        return {"sensitivity": self.trials.sensitivities[scheme]} if scheme in self.trials.sensitivities else {}

    def _parity(self, candidate: Candidate, artifact: Result) -> dict[str, Digest]:
        """Compares a winner with the original layer by layer; a picture that cannot be made stops nothing."""
        assert self.trials.reference is not None
        reference = self.trials.reference.artifact
        inputs = {"reference": reference.as_input(), "artifact": artifact.as_input(), "data": self.trials.data}
        try:
            made = self.trials.executor.run("measure", StepSpec("parity", {"samples": PARITY_SAMPLES}), inputs)
        except EdgewrightError as error:
            self.study = replace(self.study, warnings=(*self.study.warnings, f"no picture per layer: {error.message}"))
            return {}
        return {"parity": made.digest}


def signed(candidate: Candidate) -> bool:
    """Says whether both activations and weights of a candidate are signed integers."""
    return scheme_of(candidate).endswith("s8s8") and not scheme_of(candidate).endswith("u8s8")


def scheme_of(candidate: Candidate) -> str:
    """Returns the name of the scheme a candidate was quantised by; empty where it was not."""
    for spec in candidate.recipe.passes:
        scheme = spec.config.get("scheme")
        if spec.name == "static-int8" and scheme is not None:
            return scheme if isinstance(scheme, str) else str(scheme["name"])
    return ""


def with_test(candidate: Candidate, made: Result) -> Candidate:
    """Returns `candidate` with its quality on the test split."""
    assert candidate.measurement is not None
    quality = replace(read(made, "quality.json", Quality), stand_in=candidate.measurement.tune.stand_in)
    evidence = {**candidate.evidence, "test-outcomes": made.digest}
    return replace(candidate, measurement=replace(candidate.measurement, test=quality), evidence=evidence)
