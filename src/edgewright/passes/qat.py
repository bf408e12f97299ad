"""Quantisation-aware training: weights and step sizes of a quantised model learn together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.target import Plan, Scheme
from edgewright.errors import ConfigError
from edgewright.training.distillation.settings import Comparison
from edgewright.training.settings import Fit, Regime

if TYPE_CHECKING:
    from edgewright.training.quantised.train import Lesson


@dataclass(frozen=True, slots=True)
class Qat:
    """inputs["model"] (with quantisers), "float" (what it was made of), "teacher" and "data" -> the trained model.

    Learned step size quantisation (Esser et al. 2020; LSQ+, Bhalgat et al. 2020, for zero points) where the quantisers
    stand, begun from the scales they have: put it after `static-int8`. Without labels unless `labels` says otherwise:
    the float model is the teacher. Scales that integers share stay shared, those that a runtime fixes stay, zeros of
    sparse weights stay zero. Writes `training.json`, too.

    Attributes:
        epochs: Passes over the samples.
        batch: Samples per step.
        learning_rate: Of weights: the highest that the schedule reaches.
        step_rate: Learning rate of scales and zero points, as a multiple of `learning_rate`. They are relative to where
            they began, so 0.001 moves a scale by a thousandth per step.
        labels: Weight of the loss with labels; 0 needs none.
        logits: Weight of the difference to the teacher's outputs; 0 needs no teacher.
        label_loss: Where only labels count: `cross-entropy`, `mse`, `bce` or `module:function`.
        loss: Of the outputs against the teacher's, as in `distill`.
        temperature: Softens class scores.
        teacher: A model file, or `module:function` that returns a PyTorch module; the imported model when empty.
        split: Samples to learn from, several joined by `+`; `train` and `unlabelled` where there are any, else
            `calibration`, when empty.
        limit: Use at most so many of each split.
        fit: Optimiser, schedule, augmentation and the rest.
    """

    name: ClassVar[str] = "qat"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")
    needs: ClassVar[tuple[str, ...]] = ("float", "teacher", "data", "code")
    quantises: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    epochs: int = 2
    batch: int = 64
    learning_rate: float = 1e-4
    step_rate: float = 10.0
    labels: float = 0.0
    logits: float = 1.0
    label_loss: str = "cross-entropy"
    loss: str = "auto"
    temperature: float = 4.0
    teacher: str = ""
    split: str = ""
    limit: int | None = None
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        self._regime()
        self._comparison()
        if not self.step_rate >= 0:
            raise ConfigError(f"step_rate = {self.step_rate}", hint="give a factor of 0 or more, such as 10")

    def _regime(self) -> Regime:
        return Regime(self.epochs, self.batch, self.learning_rate, self.fit)

    def _comparison(self) -> Comparison:
        return Comparison(self.loss, self.temperature, self.logits, self.labels)

    def _lesson(self) -> Lesson:
        from edgewright.training.quantised.train import Lesson

        return Lesson(self._comparison(), self.label_loss, self._regime(), self.step_rate)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import qdq
        from edgewright.graph.load import PLAN_FILE, load, save, stored_plan, tensor_specs
        from edgewright.graph.shapes import infer_shapes
        from edgewright.training.distillation.distil import splits_of
        from edgewright.training.examples import load_examples
        from edgewright.training.quantised.train import Subject, train
        from edgewright.training.record import write_history

        model, reference, teacher = (infer_shapes(load(inputs[name])) for name in ("model", "float", "teacher"))
        if not qdq.is_quantised(model.graph):
            raise ConfigError("the model has no quantisers to train", hint="put `static-int8` before `qat`")
        qdq.prepare(reference)
        splits = splits_of(inputs["data"], self.split)
        specs, folder = tensor_specs(model)[0], context.scratch / "examples"
        examples = load_examples(inputs["data"], specs, splits, self.limit, folder, context.progress)
        plan = stored_plan(inputs["model"])
        subject = Subject(model, reference, plan, _scheme(plan))
        learnt, history = train(subject, teacher, examples, self._lesson(), context)
        save(infer_shapes(model), out)
        (out / PLAN_FILE).write_bytes(encode_json(learnt))
        write_history(history, out)


def _scheme(plan: Plan | None) -> Scheme | None:
    """Returns the scheme that the plan names, None where it is one of the user's own."""
    from edgewright.graph.schemes import find, names

    return find(plan.scheme) if plan is not None and plan.scheme in names() else None


plugin = Qat
