"""From class scores to a classification, and from class maps to a mask."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Classification, Detections, Segmentation, Tensors
from edgewright.errors import ConfigError, DataError
from edgewright.pipeline.postitem import Outcome, chosen, decided, score_vector

NO_CLASS = -1


@dataclass(frozen=True, slots=True)
class Softmax:
    """Turns logits into probabilities that add up to 1.

    Attributes:
        output: Name of the output; empty for the only one.
        temperature: The logits are divided by it first.
    """

    op: ClassVar[str] = "softmax"
    files: ClassVar[tuple[str, ...]] = ()
    output: str = ""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is above 0, got {self.temperature}")

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        name, logits = score_vector(outcome, self.output, self.op)
        raised = np.exp((logits - logits.max(initial=-np.inf)) / self.temperature)
        return outcome.with_scores(name, raised / raised.sum())


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """Turns logits into independent probabilities; one output value becomes the score of the positive class."""

    op: ClassVar[str] = "sigmoid"
    files: ClassVar[tuple[str, ...]] = ()
    output: str = ""

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        name, logits = score_vector(outcome, self.output, self.op)
        return outcome.with_scores(name, 0.5 * (1.0 + np.tanh(0.5 * logits)))


@dataclass(frozen=True, slots=True)
class TopK:
    """Decides for the classes with the highest scores, in descending order; ties go to the lower index.

    A single score p is that of class 1 against class 0, and becomes (1 - p, p). A score that is not a number
    decides for no class (-1).

    Attributes:
        k: How many classes; 0 for all.
        output: Name of the output; empty for the only one.
    """

    op: ClassVar[str] = "top-k"
    files: ClassVar[tuple[str, ...]] = ()
    k: int = 5
    output: str = ""

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ValueError(f"k is at least 0, got {self.k}")

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        _, scores = score_vector(outcome, self.output, self.op)
        if scores.size == 1:
            scores = np.concatenate([1.0 - scores, scores])
        if not np.isfinite(scores).all():
            return outcome.with_decision(Classification((NO_CLASS,), (0.0,)))
        best = np.argsort(-scores, kind="stable")[: self.k or None]
        return outcome.with_decision(Classification(tuple(best.tolist()), tuple(scores[best].tolist())))


@dataclass(frozen=True, slots=True)
class Threshold:
    """Keeps decisions of at least `score`; a classification with none left becomes "none" (-1).

    Attributes:
        score: Smallest score kept.
    """

    op: ClassVar[str] = "threshold"
    files: ClassVar[tuple[str, ...]] = ()
    score: float

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        if outcome.decision is None:
            outcome = TopK()(outcome, memory)
        decision = decided(outcome, self.op)
        keep = [i for i, score in enumerate(decision.scores) if score >= self.score]
        scores = tuple(decision.scores[i] for i in keep)
        if isinstance(decision, Detections):
            boxes, classes = (tuple(values[i] for i in keep) for values in (decision.boxes, decision.classes))
            return outcome.with_decision(Detections(boxes, scores, classes))  # type: ignore[arg-type]
        if not keep:
            return outcome.with_decision(Classification((NO_CLASS,), (decision.scores[0],)))
        return outcome.with_decision(Classification(tuple(decision.indices[i] for i in keep), scores))


@dataclass(frozen=True, slots=True)
class Smooth:
    """Averages the class scores of the last `window` samples of a stream: keyword smoothing.

    Posterior smoothing as in Chen, Parada and Heigold, "Small-footprint keyword spotting using deep neural
    networks", ICASSP 2014. Until `window` samples have come, the average is over those that have. It remembers:
    call `Postprocess.reset` between streams, and for every sample of a data set that is not a stream.

    Attributes:
        window: Samples averaged.
        output: Name of the output; empty for the only one.
    """

    op: ClassVar[str] = "smooth"
    files: ClassVar[tuple[str, ...]] = ()
    window: int = 5
    output: str = ""

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window is at least 1, got {self.window}")

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        name, scores = score_vector(outcome, self.output, self.op)
        recent: deque[NDArray[Any]] = memory.setdefault("recent", deque(maxlen=self.window))
        recent.append(scores)
        return outcome.with_scores(name, np.mean(recent, axis=0))


@dataclass(frozen=True, slots=True)
class Suppress:
    """After a class has been decided, answers "none" (-1) for a while, so that one event is reported once.

    Put it after `threshold`. It remembers, as `smooth` does.

    Attributes:
        samples: How many samples stay silent after a report.
        background: Class indices that are no event (silence, unknown) and are always passed on.
    """

    op: ClassVar[str] = "suppress"
    files: ClassVar[tuple[str, ...]] = ()
    samples: int
    background: tuple[int, ...] = ()

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        decision = decided(outcome, self.op)
        if not isinstance(decision, Classification):
            raise ConfigError("suppress takes classes, got boxes", hint="remove it from the list")
        silent = memory.get("silent", 0)
        memory["silent"] = max(silent - 1, 0)
        if decision.indices[0] in (NO_CLASS, *self.background):
            return outcome
        if silent:
            return outcome.with_decision(Classification((NO_CLASS,), (decision.scores[0],)))
        memory["silent"] = self.samples
        return outcome


@dataclass(frozen=True, slots=True)
class ArgmaxMask:
    """Decides for one class per pixel of the original image, undoing resize, letterbox and crop.

    Attributes:
        output: Name of the output; empty for the only one.
        layout: `chw`: [classes, height, width]; `hwc`: [height, width, classes].
    """

    op: ClassVar[str] = "argmax-mask"
    files: ClassVar[tuple[str, ...]] = ()
    output: str = ""
    layout: Literal["chw", "hwc"] = "chw"

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        name, scores = chosen(outcome, self.output, self.op)
        if scores.ndim != 3:
            raise DataError(
                f"argmax-mask takes one score per class and pixel, the output {name} is {list(scores.shape)}",
                hint="choose the right output; for one class per image use top-k",
            )
        mask = scores.argmax(axis=0 if self.layout == "chw" else -1).astype(np.int32)
        return outcome.with_decision(Segmentation(_to_original(mask, outcome.geometry)))


def _to_original(mask: NDArray[Any], geometry: Any) -> NDArray[Any]:
    """Returns the nearest mask value at the centre of every pixel of the original image."""
    if not geometry:
        return mask
    rows, columns = (
        _nearest(geometry["size"][a], geometry["scale"][a], geometry["pad"][a], geometry["input"][a], mask.shape[a])
        for a in (0, 1)
    )
    placed: NDArray[Any] = mask[rows[:, None], columns[None, :]]
    return placed


def _nearest(size: int, scale: float, pad: float, input_size: int, cells: int) -> NDArray[Any]:
    at = ((np.arange(size) + 0.5) * scale + pad) * cells / input_size
    index: NDArray[Any] = np.clip(np.floor(at).astype(np.int64), 0, cells - 1)
    return index


@dataclass(frozen=True, slots=True)
class Raw:
    """Decides nothing: the outputs themselves (regression, embeddings).

    Attributes:
        outputs: Names of the outputs kept; empty for all.
    """

    op: ClassVar[str] = "raw"
    files: ClassVar[tuple[str, ...]] = ()
    outputs: tuple[str, ...] = ()

    def __call__(self, outcome: Outcome, memory: dict[str, Any]) -> Outcome:
        names = self.outputs or tuple(outcome.tensors)
        return outcome.with_decision(Tensors(dict(chosen(outcome, name, self.op) for name in names)))
