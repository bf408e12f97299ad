"""What a search is asked: the whole question, with nothing left to look up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright.core.budget import Budget
from edgewright.core.recipe import Recipe, StepSpec, TargetSpec
from edgewright.core.tensors import TensorSpec
from edgewright.engine.execute import Input


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """`[quality]`: how good is measured.

    Attributes:
        metrics: Names or `module:function`; the first is judged. Without labels use `agreement`.
        limit: Most samples to use per split; None for all.
    """

    metrics: tuple[str, ...] = ("agreement",)
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """`[search]`: what is tried and for how long.

    Attributes:
        objective: `latency`, `throughput`, `size`, `memory` or `energy`: the best inside the budget wins.
        threads: Thread counts to try; the first is used for all comparisons.
        batch: Batch sizes to try; the first is used for all comparisons.
        stop: `met` ends at the first candidate inside the budget, `exhausted` tries the whole ladder, `auto` is `met`
            when the budget limits a cost and `exhausted` when it limits only quality.
        ladder: Names of rungs to try; empty for all.
        timing_seconds: Longest time spent on timing one candidate.
        timing_width: The ratio's 95% interval is narrowed to this width.
        reference: Target that runs the original model; every ratio compares with it.
        calibration_limit: Most calibration samples to use.
        strict: A winner must have been measured on its target; one that was only compiled does not meet the budget.
    """

    objective: str = "latency"
    threads: tuple[int, ...] = (1,)
    batch: tuple[int, ...] = (1,)
    stop: str = "auto"
    ladder: tuple[str, ...] = ()
    timing_seconds: float = 20.0
    timing_width: float = 0.05
    reference: str = "onnxruntime"
    calibration_limit: int | None = None
    strict: bool = False

    def stops_when_met(self, budget: Budget) -> bool:
        """Returns whether the first candidate inside `budget` ends the ladder."""
        return self.stop == "met" or (self.stop == "auto" and budget.limits_cost)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """`[training]`: passes that train may be tried, and how they train. In `edgewright tune` a value may be a range.

    Attributes:
        epochs: Of every recovery after pruning, and of a student.
        qat_epochs: Of quantisation-aware training; a quarter of `epochs`, at least one, when absent.
        batch: Samples per step; each pass's own when absent.
        learning_rate: Of recovery; each pass's own when absent.
        qat_learning_rate: Of quantisation-aware training; the pass's own when absent.
        labels: Weight of the labels beside the original model, where `[data.train]` has class labels; 0 learns from
            the original alone.
        latency: Latency to prune to, relative to the same model with all its channels; found from the budget when
            absent.
        rounds: Most rounds of pruning and recovery.
        importance: How channels are ranked: `magnitude`, `taylor` or `batch-norm`; the pass's own when absent.
        student: A network of the catalogue that the model is distilled into, such as `mobilenetv3-0.5`.
        sparsity: `2:4`, or the share of weights set to zero; none when absent.
        limit: Most samples of each split to learn from; all when absent.
        time_limit: Seconds of training per target after which no further pass is begun; no limit when absent.
        fit: Optimiser, schedule, augmentation and the rest: the fields of `fit` of training passes.
    """

    epochs: int = 4
    qat_epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    qat_learning_rate: float | None = None
    labels: float = 0.5
    latency: float | None = None
    rounds: int = 4
    importance: str = ""
    student: str = ""
    sparsity: str | float | None = None
    limit: int | None = None
    time_limit: float | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One search.

    Attributes:
        project: Name of the project.
        source: The import step.
        model: Its named inputs: the model file, checkpoint, code.
        data: Model inputs -> the project's `data.json`; without inputs while they are not known yet.
        code: The project's folder, identified by the sources of the user's metrics; None when there are none.
        targets: What to optimise for, each with a label of its own.
        recipes: The user's own recipes, tried after the ladder.
        quality: See `QualityConfig`.
        budget: Limits.
        search: See `SearchConfig`.
        golden: Number of golden pairs to record for each winner.
        origin: Where the model came from, for the reader.
        training: How passes that train may be tried; None where the project does not say.
    """

    project: str
    source: StepSpec
    model: Mapping[str, Input]
    data: Callable[[tuple[TensorSpec, ...]], Input]
    code: Input | None
    targets: tuple[TargetSpec, ...]
    recipes: tuple[Recipe, ...] = ()
    quality: QualityConfig = QualityConfig()
    budget: Budget = field(default_factory=Budget)
    search: SearchConfig = SearchConfig()
    golden: int = 8
    origin: Mapping[str, Any] = field(default_factory=dict)
    training: TrainingConfig | None = None
