"""Trains a model with quantisers, and writes what it learnt into the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from torch import fx, nn

from edgewright.core.step import Context
from edgewright.core.target import Plan, Scheme
from edgewright.core.training import History
from edgewright.graph.names import name_nodes
from edgewright.graph.saturation import HINT, hint, predict
from edgewright.graph.schemes.lint import require
from edgewright.training.distillation.distil import learn, many
from edgewright.training.distillation.settings import Comparison
from edgewright.training.examples import Examples
from edgewright.training.heads import logits_of
from edgewright.training.loop import Groups, fit
from edgewright.training.quantised.convert import Learnable, learnable
from edgewright.training.quantised.export import write
from edgewright.training.quantised.steps import step_parameters
from edgewright.training.settings import Regime
from edgewright.training.supervised import supervised


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learnt from, and how.

    Attributes:
        comparison: With the teacher, and the weight of labels.
        label_loss: Where only labels count: `cross-entropy`, `mse`, `bce` or `module:function`.
        regime: How long and how fast.
        step_rate: Learning rate of scales and zero points, relative to `regime.learning_rate`.
    """

    comparison: Comparison
    label_loss: str
    regime: Regime
    step_rate: float


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """What is trained.

    Attributes:
        model: With quantisers; changed in place.
        reference: The float model it was made of.
        plan: Of `model`.
        scheme: That the plan follows; None where it is not known.
    """

    model: ir.Model
    reference: ir.Model
    plan: Plan | None
    scheme: Scheme | None


def train(
    subject: Subject, teacher: ir.Model, examples: Examples, lesson: Lesson, context: Context
) -> tuple[Plan, History]:
    """Trains weights, biases, scales and zero points; the integers of the model are then those that were trained.

    Args:
        subject: The model.
        teacher: What it is to give the outputs of; not looked at where only labels count.
        examples: Prepared for the model.
        lesson: How.
        context: Seed, scratch folder, progress.

    Returns:
        The plan of the trained model, and how the training went.

    Raises:
        ConfigError: The model has no quantisers, or does not fit its teacher.
        DataError: Labels are to count, and there are none that fit.
        StepFailed: The training diverged, or the result breaks the scheme.
    """
    name_nodes(subject.model.graph)
    trained, history = _learnt(subject, teacher, examples, lesson, context)
    plan = write(trained, subject.model)
    if HINT in plan.hints:
        plan = _with_hint(plan, subject.model)
    if subject.scheme is not None:
        require(subject.model.graph, subject.scheme, plan.kept_float)
    return plan, history


def _learnt(
    subject: Subject, teacher: ir.Model, examples: Examples, lesson: Lesson, context: Context
) -> tuple[Learnable, History]:
    student, made = many(subject.model, "quantised model"), []

    def convert(model: ir.Model, outputs: Sequence[str]) -> fx.GraphModule:
        made.append(learnable(model, subject.reference, subject.plan, outputs, subject.scheme))
        return made[-1].network

    groups, regime = _groups(lesson), lesson.regime
    if _compares(lesson.comparison):
        _, history = learn(student, teacher, examples, lesson.comparison, regime, context, convert, groups)
        return made[0], history
    names = [str(value.name) for value in student.graph.outputs]
    network = convert(student, logits_of(student))
    objective = supervised(lesson.label_loss, network, names, examples)
    return made[0], fit(network, examples, objective, regime, context, groups=groups, keep_start=False)


def _compares(comparison: Comparison) -> bool:
    return bool(comparison.logits or comparison.features or comparison.attention)


def _groups(lesson: Lesson) -> Groups:
    rate, decay = lesson.regime.learning_rate, lesson.regime.fit.weight_decay

    def groups(network: nn.Module) -> list[dict[str, Any]]:
        steps = list(step_parameters(network))
        known = set(steps)
        rest = [p for p in network.parameters() if p.requires_grad and p not in known]
        made = [
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
            {"params": steps, "weight_decay": 0.0, "lr": rate * lesson.step_rate},
        ]
        return [group for group in made if group["params"]]

    return groups


def _with_hint(plan: Plan, model: ir.Model) -> Plan:
    """Says anew which operators can saturate 16-bit sums: scales and integers are others now."""
    return Plan(plan.scheme, plan.tensors, plan.kept_float, {**plan.hints, HINT: hint(predict(model.graph, plan))})
