"""Tries one recipe on one target: passes, compile, score, time, and judge. Everything it runs is a cached step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from edgewright.core.codec import decode_stored
from edgewright.core.digest import Digest
from edgewright.core.measurement import Measurement, Quality, Ratio, Timing
from edgewright.core.recipe import BROKE, FAILED, MET, REFUSED, Candidate, Recipe, StepSpec
from edgewright.core.sensitivity import SENSITIVITY_FILE, Sensitivity
from edgewright.core.target import Artifact, OperatorTime
from edgewright.engine import registry
from edgewright.engine.execute import Executor, Input, Result
from edgewright.errors import ConfigError, DataError, EdgewrightError, MetricFailed, OutOfSpace, ToolchainMissing
from edgewright.search.passes import PassRunner
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

    def judge_reference(self, target: StepSpec, threads: int, batch: int) -> Candidate:
        """Compiles, scores and times the original model.

        Raises:
            EdgewrightError: It cannot be run or scored; without it nothing can be compared.
        """
        artifact = self.compile(target, self.imported)
        tune = self.evaluate(artifact, "tune", threads)
        quality = read(tune, "quality.json", Quality)
        self.reference = Reference(artifact, tune, quality)
        timing = self.time(artifact, threads, batch)
        made = _candidate_of(f"{target.name}/original", target, Recipe("original", ()), threads, batch, artifact)
        return replace(
            made,
            measurement=Measurement(artifact.digest, self.executor.device, quality, None, timing),
            operators=self.profile(artifact, threads),
            evidence={**made.evidence, "model": self.imported.digest, "tune-outcomes": tune.digest},
        )

    def run(self, rung: Rung, threads: int, batch: int) -> Candidate:
        """Tries one rung; what goes wrong with it is kept on the candidate.

        Raises:
            EdgewrightError: The fault lies outside the candidate: data, metric, disk, toolchain.
        """
        id = f"{rung.target.name}/{rung.recipe.title}/t{threads}/b{batch}"
        start = Candidate(id, rung.target.name, rung.recipe, threads, batch)
        if rung.refused:
            return replace(start, verdict=REFUSED, why=rung.refused)
        try:
            return self._judged(rung, start)
        except _NOT_THE_CANDIDATES_FAULT:
            raise
        except EdgewrightError as error:
            return replace(start, verdict=FAILED, why=error.message.splitlines()[0], error=str(error))

    def retime(self, candidate: Candidate, artifact: Result, threads: int, batch: int) -> Candidate:
        """Times the artifact of `candidate` again with other run options; its quality stays what it was."""
        assert candidate.measurement is not None
        id = f"{candidate.target}/{candidate.recipe.title}/t{threads}/b{batch}"
        fixed = _fixed_batches(artifact)
        if fixed - {batch}:
            start = Candidate(id, candidate.target, candidate.recipe, threads, batch)
            return replace(start, verdict=REFUSED, why=f"the model takes batches of {min(fixed)} only")
        measured = replace(candidate.measurement, timing=self.time(artifact, threads, batch))
        operators = self.profile(artifact, threads)
        moved = replace(candidate, id=id, threads=threads, batch=batch, measurement=measured, operators=operators)
        return self._checked(moved)

    def apply(self, recipe: Recipe) -> Result:
        """Runs the passes of `recipe` on the imported model."""
        chain = PassRunner(self.executor, self.data, self.request.search.calibration_limit)
        return chain.run(self.imported, recipe.passes)

    def sensitivity(self, recipe: Recipe) -> Sensitivity:
        """Measures what each group that `recipe` quantises costs in accuracy.

        Args:
            recipe: With one `static-int8`; passes behind it are left out.
        """
        at = next(i for i, spec in enumerate(recipe.passes) if spec.name == "static-int8")
        known = registry.load("passes", "sensitivity").__dataclass_fields__
        config = {name: value for name, value in recipe.passes[at].config.items() if name in known}
        passes = (*recipe.passes[:at], StepSpec("sensitivity", config))
        made = self.apply(Recipe(recipe.title, passes))
        found = read(made, SENSITIVITY_FILE, Sensitivity)
        self.sensitivities[found.scheme] = made.digest
        return found

    def compile(self, target: StepSpec, model: Result) -> Result:
        """Compiles `model` for `target`."""
        inputs = {"model": model.as_input(), "data": self.data}
        return self.executor.run("targets", target, inputs, lineage=model.lineage)

    def evaluate(self, artifact: Result, split: str, threads: int, reference: Result | None = None) -> Result:
        """Scores an artifact on a split, paired with the reference's outcomes where given."""
        config = {
            "split": split,
            "metrics": list(self.request.quality.metrics),
            "limit": self.request.quality.limit,
            "threads": threads,
        }
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        if reference is not None:
            inputs["reference"] = reference.as_input()
        if self.request.code is not None:
            inputs["code"] = self.request.code
        return self.executor.run("measure", StepSpec("evaluate", config), inputs)

    def time(self, artifact: Result, threads: int, batch: int) -> Timing:
        """Times an artifact, interleaved with the reference."""
        assert self.reference is not None
        return self._timed(artifact, self.reference.artifact, threads, batch)

    def duel(self, one: Result, other: Result, threads: int, batch: int) -> Ratio:
        """Times two artifacts in turn and returns how many times faster the first is."""
        return self._timed(one, other, threads, batch).speedup

    def _timed(self, artifact: Result, reference: Result, threads: int, batch: int) -> Timing:
        search = self.request.search
        config = {
            "threads": threads,
            "batch": batch,
            "max_seconds": search.timing_seconds,
            "target_width": search.timing_width,
        }
        inputs = {
            "artifact": artifact.as_input(),
            "reference": reference.as_input(),
            "data": self.data,
        }
        return read(self.executor.run("measure", StepSpec("time", config), inputs), "timing.json", Timing)

    def profile(self, artifact: Result, threads: int) -> tuple[OperatorTime, ...]:
        """Measures the time per operator."""
        inputs = {"artifact": artifact.as_input(), "data": self.data}
        made = self.executor.run("measure", StepSpec("profile", {"threads": threads}), inputs)
        return read(made, "operators.json", tuple[OperatorTime, ...])

    def _judged(self, rung: Rung, start: Candidate) -> Candidate:
        assert self.reference is not None
        model = self.apply(rung.recipe)
        artifact = self.compile(rung.target, model)
        tune = self.evaluate(artifact, "tune", start.threads, self.reference.tune)
        timing = self.time(artifact, start.threads, start.batch)
        quality = read(tune, "quality.json", Quality)
        made = _candidate_of(start.id, rung.target, rung.recipe, start.threads, start.batch, artifact)
        made = replace(
            made,
            measurement=Measurement(artifact.digest, self.executor.device, quality, None, timing),
            operators=self.profile(artifact, start.threads),
            evidence={**made.evidence, "model": model.digest, "tune-outcomes": tune.digest},
        )
        return self._checked(made)

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


def _candidate_of(id: str, target: StepSpec, recipe: Recipe, threads: int, batch: int, compiled: Result) -> Candidate:
    artifact = read(compiled, "artifact.json", Artifact)
    return Candidate(
        id,
        target.name,
        recipe,
        threads,
        batch,
        artifact=compiled.digest,
        precision=artifact.precision,
        placement=artifact.placement,
        lineage=compiled.lineage,
        evidence={"artifact": compiled.digest},
    )
