"""Samples, data sets and metrics: the seams of everything that is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewright.core.decision import Decision

NEEDED_SPLITS = ("calibration", "tune", "test")
"""What a project must have: to choose ranges, to choose among candidates, to report."""
UNLABELLED = "unlabelled"
SPLITS = (*NEEDED_SPLITS, "train", UNLABELLED)
"""The last two are for passes that train."""
JUDGING_SPLITS = ("tune", "test")
"""What figures are computed on: no other split may hold their samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One raw item, before pre-processing.

    Attributes:
        id: Stable and unique within its data set (file name, row number); what "the same sample" means.
        value: What the first pre-processing operation takes: encoded bytes, an array, a string or a mapping.
        label: What the metric compares with; None where there is none. Class index for classification;
            for detection a mapping {"boxes": [[x1, y1, x2, y2]...] in pixels, "classes": [...], "crowd": [...]}.
    """

    id: str
    value: Any
    label: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One sample, ready for the model.

    Attributes:
        tensors: Model input name -> array *without* the batch axis.
        geometry: What post-processing needs to undo resizing, e.g. {"scale": .., "pad": .., "size": ..}.
    """

    tensors: Mapping[str, NDArray[Any]]
    geometry: Mapping[str, Any]


class Dataset(Protocol):
    """A stream of samples that may be larger than memory; iterating twice gives the same samples."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


class Metric(Protocol):
    """A figure computed from per-sample contributions, so that intervals and paired comparisons come for free.

    `contribution` gives the JSON-able sufficient statistic of one sample; `reduce` turns any multiset of them into
    the figure (it is called on bootstrap resamples too).
    """

    @property
    def name(self) -> str: ...

    @property
    def higher_is_better(self) -> bool: ...

    def contribution(self, decision: Decision, label: Any) -> Any: ...

    def reduce(self, contributions: Sequence[Any]) -> float: ...


@dataclass(frozen=True, slots=True)
class QualityFigure:
    """A quality with what one needs to believe it.

    Attributes:
        metric: Name of the metric.
        value: Point estimate, in the metric's own unit.
        low: Lower end of the 95% interval.
        high: Upper end of the 95% interval.
        samples: How many samples it rests on.
        split: `tune` or `test`.
        higher_is_better: Direction of the metric.
    """

    metric: str
    value: float
    low: float
    high: float
    samples: int
    split: str
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus baseline on the same samples, with its paired 95% interval."""

    metric: str
    value: float
    low: float
    high: float
    samples: int
    split: str
