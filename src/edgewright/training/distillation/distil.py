"""A student in ONNX learns from a teacher in ONNX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, fx

from edgewright.core.step import Context
from edgewright.core.training import History
from edgewright.data import open_data
from edgewright.errors import ConfigError, DataError, SourceError
from edgewright.graph.batch import batch_of, free_batch
from edgewright.graph.bridge import write_back
from edgewright.graph.load import tensor_specs
from edgewright.graph.qdq import fold_stored_weights
from edgewright.graph.shapes import infer_shapes
from edgewright.training.accelerator import accelerator
from edgewright.training.distillation.inside import Inside
from edgewright.training.distillation.objective import Distillation, Student
from edgewright.training.distillation.outputs import OutputLoss, choose
from edgewright.training.distillation.points import points_of
from edgewright.training.distillation.settings import Comparison
from edgewright.training.distillation.teacher import Teacher
from edgewright.training.examples import Examples
from edgewright.training.heads import logits_of, probability_of
from edgewright.training.loop import Groups, fit
from edgewright.training.losses import check_classes
from edgewright.training.networks import open_network, own_weights
from edgewright.training.norms import has_trainable
from edgewright.training.relative import relative_steps
from edgewright.training.renormalised import renormalised
from edgewright.training.settings import Regime

LOOKED_AT = 64
"""Samples that decide about scales and start projections."""
NORMALISED_BY = 256
"""Samples whose statistics a batch norm starts from that was not there."""


def _open(model: ir.Model, outputs: Sequence[str]) -> fx.GraphModule:
    return open_network(model, outputs=outputs, fused=True)


def distil(
    student: ir.Model,
    teacher: ir.Model,
    examples: Examples,
    comparison: Comparison,
    regime: Regime,
    context: Context,
    steps: str = "auto",
) -> History:
    """Trains `student` in place to give what `teacher` gives.

    Models exported for single samples are trained on many at once where their graphs allow it.

    Args:
        student: Float; weights stored as integers behind a DequantizeLinear become float.
        teacher: Takes the same inputs; its outputs are found by name, else by order.
        examples: Prepared for the student; labels are used where `comparison.labels` is above 0.
        comparison: What is compared.
        regime: How long and how fast.
        context: Seed, scratch folder, progress.
        steps: `plain`; `relative` to the size of each channel's weights (`training.relative`); `normalised`: these,
            with a batch norm behind each convolution meanwhile (`training.renormalised`); `auto` takes `relative`
            where no batch norm evens out the size of a step.

    Raises:
        ConfigError: The two models do not fit each other.
        SourceError: An operator cannot be converted.
        StepFailed: The training diverged, or memory is not enough.
    """
    fold_stored_weights(student.graph)
    own_weights(student)
    network, history = learn(infer_shapes(student), teacher, examples, comparison, regime, context, steps=steps)
    write_back(network, student)
    return history


def learn(
    student: ir.Model,
    teacher: ir.Model,
    examples: Examples,
    comparison: Comparison,
    regime: Regime,
    context: Context,
    open_student: Callable[[ir.Model, Sequence[str]], fx.GraphModule] = _open,
    groups: Groups | None = None,
    steps: str = "plain",
) -> tuple[fx.GraphModule, History]:
    """Trains a network made of `student`, which stays as it is, to give what `teacher` gives.

    Args:
        student: With inferred shapes.
        teacher: See `distil`.
        examples: See `distil`.
        comparison: See `distil`.
        regime: See `distil`.
        context: See `distil`.
        open_student: Makes the network of a model and the names of the tensors that it is to return.
        groups: Of parameters, as `fit` takes them.
        steps: See `distil`.

    Returns:
        The network, trained.
    """
    theirs = infer_shapes(teacher)
    _check_inputs(student, theirs)
    heads = _heads(student, theirs)
    points = points_of(student, theirs, comparison)
    network = open_student(student, [*(a for a, _, _ in heads), *(point.student for point in points)])
    guide = Teacher(open_network(theirs, outputs=[*(b for _, b, _ in heads), *(point.teacher for point in points)]))
    learner = Student(network, Inside(points))
    losses = _started(learner, guide, examples, comparison, [end for _, _, end in heads])
    if not regime.fit.augment:
        device = accelerator(regime.fit).device
        guide.keep(examples, context.scratch / "teacher", device, lambda share, note: context.progress(0.0, note))
    with _steps(network, steps, examples):
        objective = Distillation(comparison, guide, losses)
        unseen = not comparison.labels
        history = fit(learner, examples, objective, regime, context, groups=groups, keep_start=unseen)
    return learner.model, history


@contextmanager
def _steps(network: fx.GraphModule, steps: str, examples: Examples) -> Iterator[None]:
    relative = steps in ("relative", "normalised") or (steps == "auto" and not has_trainable(network))
    with ExitStack() as stack:
        if steps == "normalised":
            rows = _spread(len(examples), NORMALISED_BY)
            stack.enter_context(renormalised(network, tuple(tensor[rows] for tensor in examples.inputs)))
        if relative:
            stack.enter_context(relative_steps(network))
        yield


def splits_of(data: Path, split: str) -> tuple[str, ...]:
    """Returns the splits to learn from: those named (joined by `+`), else `train` and `unlabelled`, else `calibration`.

    Raises:
        ConfigError: There is no such split, or it judges the result.
    """
    known = open_data(data).splits
    chosen = [name.strip() for name in split.split("+")] if split else [n for n in _LEARNT if n in known]
    chosen = chosen or ["calibration"]
    for name in chosen:
        if name in ("tune", "test"):
            hint = "what judges a candidate must not be trained on; use train, unlabelled or calibration"
            raise ConfigError(f'split = "{split}": {name} judges the result', hint=hint)
        if name not in known:
            hint = f"add [data.{name}], or set split to one of {', '.join(known)}"
            raise ConfigError(f'there is no split "{name}" to learn from', hint=hint)
    return tuple(chosen)


_LEARNT = ("train", "unlabelled")


def many(model: ir.Model, whose: str) -> ir.Model:
    """Returns a copy of `model` that takes any number of samples.

    Raises:
        SourceError: Its graph does not allow that.
    """
    free = free_batch(model)
    if free is not None:
        return free
    if batch_of(model) is None:
        return infer_shapes(model)
    raise SourceError(
        f"the {whose} takes {batch_of(model)} sample(s) at a time, and its graph folds the batch into another axis",
        hint="export it with a free batch axis",
    )


def _check_inputs(student: ir.Model, teacher: ir.Model) -> None:
    ours, theirs = tensor_specs(student)[0], tensor_specs(teacher)[0]
    fits = len(ours) == len(theirs) and all(
        a.dtype == b.dtype and len(a.shape) == len(b.shape) and not _contradict(a.shape[1:], b.shape[1:])
        for a, b in zip(ours, theirs, strict=True)
    )
    if not fits:
        said = [", ".join(f"{s.name} {list(s.shape)} {s.dtype}" for s in specs) for specs in (ours, theirs)]
        raise ConfigError(
            f"the student takes {said[0]}, the teacher {said[1]}",
            hint="distil between models that take the same inputs in the same order",
        )


def _contradict(ours: Sequence[int | str], theirs: Sequence[int | str]) -> bool:
    return any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(ours, theirs, strict=True))


def _heads(student: ir.Model, teacher: ir.Model) -> list[tuple[str, str, str]]:
    """Returns, per output, logits of the student, logits of the teacher, and what made probabilities of them."""
    ends = probability_of(student), probability_of(teacher)
    logits = logits_of(student), logits_of(teacher)
    names = [str(value.name) for value in student.graph.outputs]
    known = {str(value.name): index for index, value in enumerate(teacher.graph.outputs)}
    if all(name in known for name in names):
        partners = [known[name] for name in names]
    elif len(names) == len(known):
        partners = list(range(len(names)))
    else:
        raise ConfigError(
            f"the student has {len(names)} outputs, the teacher {len(known)} of other names",
            hint="give a student whose outputs have the names of the teacher's",
        )
    found = []
    for index, partner in enumerate(partners):
        both = bool(ends[0][index]) == bool(ends[1][partner])
        whole = str(student.graph.outputs[index].name), str(teacher.graph.outputs[partner].name)
        # Scores and logits are not of one kind: where only one model ends in a softmax the other may give logits.
        peeled = logits[0][index], logits[1][partner]
        end = ends[1][partner] or ends[0][index]
        found.append((*peeled, end) if both or end in ("Softmax", "LogSoftmax") else (*whole, ""))
    return found


def _started(
    learner: Student, guide: Teacher, examples: Examples, comparison: Comparison, ends: Sequence[str]
) -> tuple[OutputLoss, ...]:
    """Looks at some samples: chooses the losses of the outputs and starts the projections."""
    rows = _spread(len(examples), LOOKED_AT)
    learner.eval()
    given, wanted = [], []
    with torch.no_grad():
        for some in torch.split(rows, 16):
            inputs = tuple(tensor[some] for tensor in examples.inputs)
            given.append(learner(*inputs))
            wanted.append(guide.run(inputs))
    ours, theirs = ([torch.cat(parts) for parts in zip(*many, strict=True)] for many in (given, wanted))
    _check_outputs(ours[: len(ends)], theirs[: len(ends)])
    if comparison.labels:
        _check_labels(ours[0], examples)
    learner.inside.start(ours[len(ends) :], theirs[len(ends) :])
    return tuple(choose(comparison, end, theirs[i], len(examples.classes)) for i, end in enumerate(ends))


def _spread(count: int, most: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def _check_outputs(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
    for index, (ours, theirs) in enumerate(zip(student, teacher, strict=True)):
        if ours.shape != theirs.shape:
            raise ConfigError(
                f"output {index}: {list(ours.shape[1:])} of the student, {list(theirs.shape[1:])} of the teacher",
                hint="give a student with as many classes (and positions) as the teacher",
            )


def _check_labels(logits: Tensor, examples: Examples) -> None:
    labels = examples.labels
    if not examples.labelled or labels is None or labels.is_floating_point() or labels.dim() != logits.dim() - 1:
        raise DataError(
            "labels are to count, and the samples have no class indices",
            hint="set labels = 0, or name a split with labels",
        )
    check_classes(labels, logits.shape[1], examples.classes)
