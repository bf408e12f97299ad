"""Recipes, candidates and the study that a search leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright.core.budget import Budget, Violation
from edgewright.core.digest import Digest
from edgewright.core.measurement import Device, Measurement, Ratio
from edgewright.core.step import StepRecord
from edgewright.core.target import NodePlacement, OperatorTime
from edgewright.core.tensors import TensorSpec
from edgewright.core.variant import Choice


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A step by name and fields: how recipes are written down, before any plugin is imported."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        shown = ", ".join(_field(k, v) for k, v in self.config.items() if v not in (None, False, ()))
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One target of a project.

    Attributes:
        label: What winners, tables and bundles call it; two entries of one target differ in it.
        step: Name of the target and its own fields.
        device: Address of the device that measures it, e.g. `ssh://pi@host`, or its name in a lab file; empty for
            this machine.
    """

    label: str
    step: StepSpec
    device: str = ""


_LISTED = 4


def _field(key: str, value: Any) -> str:
    """Shows what a reader can take in: a scheme by its name, a long list by its length."""
    if isinstance(value, bool):
        return key
    if isinstance(value, Mapping) and "name" in value:
        return f"{key}={value['name']}"
    if isinstance(value, (list, tuple)):
        names = ", ".join(map(str, value[:_LISTED]))
        return f"{key}=[{names}{f', and {len(value) - _LISTED} more' if len(value) > _LISTED else ''}]"
    return f"{key}={value}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Passes in order, as one reads them: `clean-up > quantize-static(ranges=minmax)`."""

    title: str
    passes: tuple[StepSpec, ...]

    def __str__(self) -> str:
        return " > ".join(map(str, self.passes)) or "as imported"


MET, BROKE, DOMINATED, FAILED, REFUSED = "met", "broke budget", "dominated", "failed", "refused"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One recipe on one target with one set of run options, and how it fared.

    Attributes:
        id: Short and stable: target, recipe title, threads, batch.
        target: Label of the target.
        recipe: What was done to the model.
        threads: Intra-operator threads it was measured with.
        batch: Samples per run.
        artifact: Digest of the compiled artifact; None when it was refused or failed before that.
        precision: Main compute precision.
        measurement: None when there was nothing to measure.
        violations: Broken limits.
        verdict: One of MET, BROKE, DOMINATED, FAILED, REFUSED.
        why: One sentence: why it won or lost.
        placement: Every node as it really runs.
        operators: Time per operator.
        lineage: Records of every step that led to the artifact.
        evidence: Name -> digest of files in the store: `artifact`, `model`, `tune-outcomes`, `test-outcomes`.
        error: Message of the failure.
        notes: What the search knows of it besides: operators kept in float because integers are slower here.
        proof: What the target proved of the artifact on the machine that made it.
        unproven: What only another machine can show of it.
    """

    id: str
    target: str
    recipe: Recipe
    threads: int
    batch: int
    artifact: Digest | None = None
    precision: str = ""
    measurement: Measurement | None = None
    violations: tuple[Violation, ...] = ()
    verdict: str = MET
    why: str = ""
    placement: tuple[NodePlacement, ...] = ()
    operators: tuple[OperatorTime, ...] = ()
    lineage: tuple[StepRecord, ...] = ()
    evidence: Mapping[str, Digest] = field(default_factory=dict)
    error: str = ""
    notes: tuple[str, ...] = ()
    proof: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """The winner of one target beside the best of all targets: what a user of that runtime alone gives away.

    Attributes:
        target: Name of the target.
        candidate: Id of its winner.
        met: Whether that meets the budget.
        advantage: How many times better the best of all is in the study's objective, with its 95% interval; 1 for the
            best itself.
        basis: How that is known, in words.
    """

    target: str
    candidate: str
    met: bool
    advantage: Ratio
    basis: str


@dataclass(frozen=True, slots=True)
class Study:
    """Everything a search found out; `study.json`. The report, the bundle and CI read this and nothing else.

    Attributes:
        schema: Version of this layout.
        project: Name of the project.
        device: Where it was measured.
        inputs: Of the imported model.
        outputs: Of the imported model.
        budget: The limits.
        objective: What is minimised among those that meet the budget: `latency`, `size`, `memory`, `energy`.
        reference: The original model in float32 on the reference target: what every ratio compares with.
        candidates: In the order tried.
        winners: Target -> id of the chosen candidate (the nearest one where none meets the budget).
        met: Target -> whether its winner meets the budget.
        fronts: Target -> ids on the Pareto front (quality against the objective).
        warnings: About the data or the conditions.
        tools: Distribution -> version of the environment.
        labels: Class names, in index order.
        source: What was imported: {"kind", "path", "largest_difference", ...}.
        variants: Target -> which machines run which candidate, the first that fits, where one artifact is not right on
            all of them; the last one is for any machine.
        standings: The targets' winners beside the best of all, the best first; empty where there is one target.
        strict: A winner must have been measured on its target.
        devices: Label of a target -> the device that measured it, where that is not `device`.
    """

    schema: int
    project: str
    device: Device
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    budget: Budget
    objective: str
    reference: Candidate
    candidates: tuple[Candidate, ...]
    winners: Mapping[str, str] = field(default_factory=dict)
    met: Mapping[str, bool] = field(default_factory=dict)
    fronts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    standings: tuple[Standing, ...] = ()
    strict: bool = False
    devices: Mapping[str, Device] = field(default_factory=dict)

    def candidate(self, id: str) -> Candidate:
        """Returns the candidate (or the reference) with this id.

        Raises:
            KeyError: There is none.
        """
        for candidate in (self.reference, *self.candidates):
            if candidate.id == id:
                return candidate
        raise KeyError(id)

    def of_target(self, target: str) -> tuple[Candidate, ...]:
        """Returns the candidates of one target, in the order tried."""
        return tuple(c for c in self.candidates if c.target == target)

    def best(self, target: str) -> Candidate:
        """Returns the winner of `target`."""
        return self.candidate(self.winners[target])
