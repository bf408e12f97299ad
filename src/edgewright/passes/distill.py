"""Distillation: a smaller model learns to give what a larger one gives, with or without labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgewright.core.step import Context
from edgewright.errors import ConfigError
from edgewright.training.distillation.settings import Comparison, Detector
from edgewright.training.settings import Fit, Regime

_FOUND, _FIT = Detector(), Fit()
_STEPS = ("auto", "plain", "relative", "normalised")


@dataclass(frozen=True, slots=True)
class Distill:
    """inputs["model"] (the student), inputs["teacher"], inputs["data"] -> the student with trained weights.

    Without labels unless `labels` says otherwise. A pruned model learns from what it was made of, a student of another
    architecture from any teacher with the same inputs and outputs. Writes `training.json`, too.

    Attributes:
        teacher: A model file, or `module:function` that returns a PyTorch module; the imported model when empty.
        epochs: Passes over the samples.
        batch: Samples per step.
        learning_rate: The highest that the schedule reaches.
        loss: Of the outputs: `classes` (Hinton et al. 2015), `decoupled` (Zhao et al. 2022), `binary`, `detector`,
            `mse` or `l1`; `auto` looks at the graph and at what the teacher gives.
        temperature: Softens class scores.
        logits: Weight of the outputs.
        labels: Weight of the cross-entropy with labels; 0 needs none.
        features: Pairs of tensors whose features are compared, each `tensor` or `student -> teacher`; or `auto`.
        feature_weight: Of each pair.
        attention: Pairs whose attention is compared, in the same form; or `auto`.
        attention_weight: Of each pair.
        detector: Columns of a dense detector's output, where they are not found.
        split: Samples to learn from, several joined by `+`; `train` and `unlabelled` where there are any, else
            `calibration`, when empty.
        limit: Use at most so many of each split.
        steps: `plain`; `relative` to the size of each channel's weights; `normalised`: these, with a batch norm behind
            each convolution meanwhile, folded again at the end, for networks whose batch norm was folded at export.
            `auto` takes `relative` where batch norm is folded or absent: nothing there evens out a step that is too
            long.
        fit: Optimiser, schedule, augmentation and the rest.
    """

    name: ClassVar[str] = "distill"
    version: ClassVar[int] = 1
    requires: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")
    needs: ClassVar[tuple[str, ...]] = ("teacher", "data", "code")
    trains: ClassVar[bool] = True

    teacher: str = ""
    epochs: int = 10
    batch: int = 32
    learning_rate: float = 1e-3
    loss: str = "auto"
    temperature: float = 4.0
    logits: float = 1.0
    labels: float = 0.0
    features: tuple[str, ...] = ()
    feature_weight: float = 1.0
    attention: tuple[str, ...] = ()
    attention_weight: float = 1.0
    detector: Detector = _FOUND
    split: str = ""
    limit: int | None = None
    steps: str = "auto"
    fit: Fit = _FIT

    def __post_init__(self) -> None:
        """Refuses what cannot be meant."""
        self._regime()
        self._comparison()
        if self.steps not in _STEPS:
            raise ConfigError(f'steps = "{self.steps}" is not known', hint=f"one of: {', '.join(_STEPS)}")

    def _regime(self) -> Regime:
        return Regime(self.epochs, self.batch, self.learning_rate, self.fit)

    def _comparison(self) -> Comparison:
        inside = (self.features, self.feature_weight, self.attention, self.attention_weight)
        return Comparison(self.loss, self.temperature, self.logits, self.labels, *inside, self.detector)

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph.load import load, save, tensor_specs
        from edgewright.training.distillation.distil import distil, splits_of
        from edgewright.training.examples import load_examples
        from edgewright.training.record import write_history

        student, teacher = load(inputs["model"]), load(inputs["teacher"])
        splits = splits_of(inputs["data"], self.split)
        specs = tensor_specs(student)[0]
        folder = context.scratch / "examples"
        examples = load_examples(inputs["data"], specs, splits, self.limit, folder, context.progress)
        history = distil(student, teacher, examples, self._comparison(), self._regime(), context, self.steps)
        save(student, out)
        write_history(history, out)


plugin = Distill
