"""Tries one recipe on one target: passes, compile, score, time, and judge. Everything it runs is a cached step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from edgewright.core.codec import decode_stored
from edgewright.core.digest import Digest
from edgewright.core.measurement import EMULATED, Measurement, Quality, Ratio, Timing
from edgewright.core.recipe import BROKE, FAILED, MET, REFUSED, Candidate, Recipe, StepSpec, TargetSpec
from edgewright.core.sensitivity import SENSITIVITY_FILE, Sensitivity
from edgewright.core.target import Artifact, OperatorTime
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Result
from edgewright.errors import ConfigError, DataError, EdgewrightError, MetricFailed, OutOfSpace, ToolchainMissing
from edgewright.measure.time import size_bytes
from edgewright.search.passes import PassRunner, Pricing
from edgewright.search.places import Place, place_of, stand_in
from edgewright.search.request import Request
from edgewright.search.rungs import Rung

T = TypeVar("T")
_NOT_THE_CANDIDATES_FAULT = (ConfigError, DataError, MetricFailed, OutOfSpace, ToolchainMissing)


@dataclass(frozen=True, slots=True)
class Reference:
    """The original model, compiled and scored: what everything is compared with."""

    artifact: Result
    tune: Result
    quality: Quality


class Trials:
    """Runs trials for one request.

    Attributes:
        executor: Runs the steps.
        request: The question.
        imported: The imported model.
        data: The project's data, held against its inputs.
        reference: Set once the original model has been judged.
        sensitivities: Scheme -> output of the step that measured what each of its groups loses.
    """

    def __init__(self, executor: Executor, request: Request, imported: Result, data: Input) -> None:
        self.executor = executor
        self.request = request
        self.imported = imported
        self.data = data
        self.reference: Reference | None = None
        self.sensitivities: dict[str, Digest] = {}
        self._places: dict[str, Place] = {}

    def place(self, target: TargetSpec) -> Place:
        """Returns where `target` is measured; a device is asked once."""
        if target.label not in self._places:
            self._places[target.label] = place_of(target, self.executor.device)
        return self._places[target.label]

    @property
    def here(self) -> Place:
        """This machine."""
        return Place(self.executor.device)

    def judge_reference(self, target: StepSpec, threads: int, batch: int) -> Candidate:
        """Compiles, scores and times the original model.

        Raises:
            EdgewrightError: It cannot be run or scored; without it nothing can be compared.
        """
        artifact = self.compile(target, self.imported)
        tune = self.evaluate(artifact, "tune", threads, self.here)
        quality = read(tune, "quality.json", Quality)
        self.reference = Reference(artifact, tune, quality)
        timing = self.time(artifact, threads, batch, self.here)
        start = Candidate(f"{target.name}/original", target.name, Recipe("original", ()), threads, batch)
        made = _described(start, artifact)
        return replace(
            made,
            measurement=Measurement(artifact.digest, self.executor.device, quality, None, timing),
            operators=self.profile(artifact, threads, self.here),
            evidence={**made.evidence, "model": self.imported.digest, "tune-outcomes": tune.digest},
        )

    def run(self, rung: Rung, target: TargetSpec, threads: int, batch: int) -> Candidate:
        """Tries one rung; what goes wrong with it is kept on the candidate.

        Raises:
            EdgewrightError: The fault lies outside the candidate: data, metric, disk, toolchain.
        """
        id = f"{target.label}/{rung.recipe.title}/t{threads}/b{batch}"
        start = Candidate(id, target.label, rung.recipe, threads, batch)
        if rung.refused:
            return replace(start, verdict=REFUSED, why=rung.refused)
        try:
            return self._judged(rung, start, target)
        except EdgewrightError as error:
            chosen = rung.tentative and isinstance(error, ConfigError)
            if isinstance(error, _NOT_THE_CANDIDATES_FAULT) and not chosen:
                raise
            return replace(start, verdict=FAILED, why=error.message.splitlines()[0], error=str(error))

    def retime(self, candidate: Candidate, artifact: Result, target: TargetSpec, threads: int, batch: int) -> Candidate:
        """Times the artifact of `candidate` again with other run options; its quality stays what it was."""
        assert candidate.measurement is not None
        place = self.place(target)
        id = f"{candidate.target}/{candidate.recipe.title}/t{threads}/b{batch}"
        fixed = _fixed_batches(artifact)
        if fixed - {batch}:
            start = Candidate(id, candidate.target, candidate.recipe, threads, batch)
            return replace(start, verdict=REFUSED, why=f"the model takes batches of {min(fixed)} only")
        measured = replace(candidate.measurement, timing=self.time(artifact, threads, batch, place))
        operators = self.profile(artifact, threads, place)
        moved = replace(candidate, id=id, threads=threads, batch=batch, measurement=measured, operators=operators)
        return self._checked(moved)

    def apply(self, recipe: Recipe, target: TargetSpec) -> Result:
        """Runs the passes of `recipe` on the imported model; what they choose by cost is measured on `target`."""
        limit = self.request.search.calibration_limit
        return PassRunner(self.executor, self.data, limit, self._pricing(target)).run(self.imported, recipe.passes)

    def _pricing(self, target: TargetSpec) -> Pricing:
        """Where the target does not run here the reference says which of two models is faster."""
        place, threads = self.place(target), self.request.search.threads[0]
        if place.absent:
            return Pricing(StepSpec(self.request.search.reference), threads, self.here)
        return Pricing(target.step, threads, place)

    def sensitivity(self, recipe: Recipe, target: TargetSpec) -> Sensitivity:
        """Measures what each group that `recipe` quantises costs in accuracy.

        Args:
            recipe: With one `static-int8`; passes behind it are left out.
            target: That it is for.
        """
        at = next(i for i, spec in enumerate(recipe.passes) if spec.name == "static-int8")
        known = registry.load("passes", "sensitivity").__dataclass_fields__
        config = {name: value for name, value in recipe.passes[at].config.items() if name in known}
        passes = (*recipe.passes[:at], StepSpec("sensitivity", config))
        made = self.apply(Recipe(recipe.title, passes), target)
        found = read(made, SENSITIVITY_FILE, Sensitivity)
        self.sensitivities[found.scheme] = made.digest
        return found

    def compile(self, target: StepSpec, model: Result) -> Result:
        """Compiles `model` for `target`."""
        inputs = {"model": model.as_input(), "data": self.data}
        return self.executor.run("targets", target, inputs, lineage=model.lineage)

    def runnable(self, artifact: Result, model: Result, place: Place) -> Result:
        """Returns the artifact, or where it does not run what stands in for it: the same graph on the reference."""
        return self.compile(StepSpec(self.request.search.reference), model) if place.absent else artifact

    def evaluate(
        self, artifact: Result, split: str, threads: int, place: Place, reference: Result | None = None
    ) -> Result:
        """Scores an artifact on a split, paired with the reference's outcomes where given."""
        config = {
            "split": split,
            "metrics": list(self.request.quality.metrics),
            "limit": self.request.quality.limit,
            "threads": threads,
            **place.fields,
        }
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        if reference is not None:
            inputs["reference"] = reference.as_input()
        if self.request.code is not None:
            inputs["code"] = self.request.code
        return self.executor.run("measure", StepSpec("evaluate", config), inputs, device=place.device)

    def time(self, artifact: Result, threads: int, batch: int, place: Place) -> Timing:
        """Times an artifact, interleaved with the reference."""
        assert self.reference is not None
        return self._timed(artifact, self.reference.artifact, threads, batch, place)

    def duel(self, one: Result, other: Result, threads: int, batch: int, place: Place) -> Ratio:
        """Times two artifacts in turn and returns how many times faster the first is."""
        return self._timed(one, other, threads, batch, place).speedup

    def _timed(self, artifact: Result, reference: Result, threads: int, batch: int, place: Place) -> Timing:
        search = self.request.search
        config = {
            "threads": threads,
            "batch": batch,
            "max_seconds": search.timing_seconds,
            "target_width": search.timing_width,
            **place.fields,
        }
        inputs = {
            "artifact": artifact.as_input(),
            "reference": reference.as_input(),
            "data": self.data,
        }
        made = self.executor.run("measure", StepSpec("time", config), inputs, device=place.device)
        return read(made, "timing.json", Timing)

    def profile(self, artifact: Result, threads: int, place: Place) -> tuple[OperatorTime, ...]:
        """Measures the time per operator."""
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        spec = StepSpec("profile", {"threads": threads, **place.fields})
        made = self.executor.run("measure", spec, inputs, device=place.device)
        return read(made, "operators.json", tuple[OperatorTime, ...])

    def _judged(self, rung: Rung, start: Candidate, target: TargetSpec) -> Candidate:
        assert self.reference is not None
        place = self.place(target)
        model = self.apply(rung.recipe, target)
        artifact = self.compile(rung.target, model)
        made = _described(start, artifact)
        runnable = self.runnable(artifact, model, place)
        tune = self.evaluate(runnable, "tune", start.threads, place, self.reference.tune)
        quality = read(tune, "quality.json", Quality)
        made = replace(made, evidence={**made.evidence, "model": model.digest, "tune-outcomes": tune.digest})
        if place.absent:
            return self._checked(self._predicted(made, artifact, quality, place))
        timing = self.time(artifact, start.threads, start.batch, place)
        timing = replace(timing, basis=EMULATED) if place.emulated else timing
        measured = Measurement(artifact.digest, place.device, quality, None, timing)
        return self._checked(
            replace(made, measurement=measured, operators=self.profile(artifact, start.threads, place))
        )

    def _predicted(self, made: Candidate, artifact: Result, quality: Quality, place: Place) -> Candidate:
        """What is known of an artifact that does not run here: its size, and the quality of the same graph."""
        quality = replace(quality, stand_in=stand_in(StepSpec(self.request.search.reference)))
        measured = Measurement(artifact.digest, place.device, quality, None, None, size_bytes=size_bytes(artifact.path))
        return replace(made, measurement=measured, unproven=(place.absent, *made.unproven))

    def _checked(self, candidate: Candidate) -> Candidate:
        assert self.reference is not None
        assert candidate.measurement is not None
        violations = self.request.budget.check(self.reference.quality, candidate.measurement)
        return replace(candidate, violations=violations, verdict=BROKE if violations else MET)


def read(made: Result, name: str, kind: type[T]) -> T:
    """Reads a JSON file that a step made."""
    return decode_stored(kind, (made.path / name).read_bytes())


def _fixed_batches(compiled: Result) -> set[int]:
    """Returns the sizes that the first axes of the inputs are fixed to; empty where they are free."""
    shapes = [spec.shape for spec in read(compiled, "artifact.json", Artifact).inputs]
    return {shape[0] for shape in shapes if shape and isinstance(shape[0], int)}


def _described(start: Candidate, compiled: Result) -> Candidate:
    artifact = read(compiled, "artifact.json", Artifact)
    return replace(
        start,
        artifact=compiled.digest,
        precision=artifact.precision,
        placement=artifact.placement,
        lineage=compiled.lineage,
        evidence={"artifact": compiled.digest},
        proof=artifact.proof,
        unproven=artifact.unproven,
    )
