"""What every search begins with: tools, import, data, and the original model judged."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.codec import encode
from edgewright.core.recipe import Candidate, StepSpec
from edgewright.engine import registry, toolchain
from edgewright.engine.execute import Executor, Input, Result
from edgewright.errors import ToolchainMissing
from edgewright.measure.audit import Audit
from edgewright.measure.survey import Survey
from edgewright.search import compression
from edgewright.search.imported import Imported
from edgewright.search.observer import Observer
from edgewright.search.request import Request, TrainingConfig
from edgewright.search.rungs import Facts, Trainable
from edgewright.search.trial import Trials, read


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known before the first candidate.

    Attributes:
        found: The import.
        audit: Of the data.
        reference: The original model, scored, timed and profiled.
        facts: About the model.
        trials: Tries recipes.
    """

    found: Imported
    audit: Audit
    reference: Candidate
    facts: Facts
    trials: Trials


def open_search(request: Request, executor: Executor, observer: Observer) -> Opening:
    """Imports the model of `request`, checks its data and judges the original.

    Raises:
        EdgewrightError: The model, the data, a metric, a recipe or a toolchain is at fault.
    """
    _need_tools(request)
    _need_passes(request)
    observer.phase("import")
    given = {**request.model, "data": request.data(())}
    imported = executor.run("sources", request.source, given)
    found = read(imported, "import.json", Imported)
    data = request.data(found.inputs)
    observer.phase("data")
    audit = _audit(request, executor, data)
    observer.phase("profile")
    survey = _survey(request, executor, imported)
    trials = Trials(executor, request, imported, data)
    observer.phase("original model")
    reference = StepSpec(request.search.reference)
    judged = trials.judge_reference(reference, request.search.threads[0], request.search.batch[0])
    return Opening(found, audit, judged, _facts(survey, judged, request, audit), trials)


def _need_tools(request: Request) -> None:
    """What is not installed is said at once, and not after an hour."""
    source = request.source.name
    extras = filter(None, ("build", getattr(registry.load("sources", source), "extra", "")))
    reference = registry.load("targets", request.search.reference)
    toolchain.need(f"optimising a model from {source}", *extras, reference.extra)
    for spec in request.targets:
        target = registry.load("targets", spec.step.name)
        if absent := toolchain.missing(target.extra):
            message = f"target {spec.label} needs {', '.join(absent)}, not installed here"
            raise ToolchainMissing(message, hint=f"{toolchain.install_line(target.extra)}, or remove the target")


def _need_passes(request: Request) -> None:
    """A recipe with an unknown pass or field is refused now, not when its turn comes."""
    for recipe in request.recipes:
        for spec in recipe.passes:
            registry.make("passes", spec)
    if request.training is not None:
        for spec in compression.described(request.training):
            registry.make("passes", spec)


def _audit(request: Request, executor: Executor, data: Input) -> Audit:
    spec = StepSpec("audit", {"metrics": list(request.quality.metrics)})
    inputs = {"data": data} if request.code is None else {"data": data, "code": request.code}
    return read(executor.run("measure", spec, inputs), "audit.json", Audit)


def _survey(request: Request, executor: Executor, imported: Result) -> Survey:
    spec = StepSpec("survey", {"targets": {target.label: encode(target.step) for target in request.targets}})
    return read(executor.run("measure", spec, {"model": imported.as_input()}), "survey.json", Survey)


def _facts(survey: Survey, reference: Candidate, request: Request, audit: Audit) -> Facts:
    total = sum(operator.microseconds for operator in reference.operators)
    share: dict[str, float] = {}
    for operator in reference.operators:
        kind = _graph_operator(operator.op)
        share[kind] = share.get(kind, 0.0) + operator.microseconds / max(total, 1e-9)
    budget = request.budget
    small = budget.size_bytes is not None or budget.peak_memory_bytes is not None
    lacking = ", ".join(toolchain.missing("torch"))
    absent = {"adaround": f"needs {lacking}: {toolchain.install_line('torch')}"} if lacking else {}
    training = trainable(request, audit, absent.get("adaround", ""))
    return Facts(survey.quantized, survey.refusals, share, survey.operators, small, absent, reference, training)


def trainable(request: Request, audit: Audit, absent: str) -> Trainable | None:
    """Returns what there is to learn from; None where the project gives no sign that it wants to be trained."""
    wanted = frozenset(request.search.ladder)
    asked = request.training is not None or not wanted.isdisjoint(compression.NAMES)
    if not asked and not any(audit.samples.get(name) for name in ("train", "unlabelled")):
        return None
    config = request.training or TrainingConfig()
    labelled, limited = "train" in audit.classes, request.budget.limits_cost
    return Trainable(config, audit.samples, labelled, asked, wanted, limited, absent)


def _graph_operator(kernel: str) -> str:
    """Returns the operator that a runtime's kernel stands for: `FusedConv` is a Conv."""
    return next((op for op in ("Conv", "MatMul", "Gemm") if op in kernel), kernel)
