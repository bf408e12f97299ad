"""Layer-by-layer parity of two models: what `compare` measures and `why` reasons about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

IMPORT, CLEAN_UP, CONVERSION, PRECISION = "import", "clean-up", "conversion", "precision"
PREPROCESSING, POSTPROCESSING, RUNTIME = "preprocessing", "postprocessing", "runtime"
STAGES = (PREPROCESSING, IMPORT, CLEAN_UP, CONVERSION, PRECISION, RUNTIME, POSTPROCESSING)
"""Where accuracy can be lost, in the order data passes through."""


EXACT_DB = 200.0
"""Written for a signal-to-noise ratio without noise, minus it for one without signal: JSON has no infinities."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values occurred.

    Attributes:
        low: Lower end of the first bin.
        high: Upper end of the last bin.
        counts: Values per bin; bins are of equal width.
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightUse:
    """How the integers of a layer's weights hold the float weights of the reference.

    Attributes:
        tensor: Name in the candidate.
        dtype: Type of the integers.
        scales: Smallest and largest scale; equal where there is one for all channels.
        low: Smallest real value that the integers of some channel express.
        high: Largest.
        sqnr_db: Of the stored weights against the reference's; None where the reference's are not known.
        values: Of the reference's weights, or of the stored ones where those are not known.
    """

    tensor: str
    dtype: str
    scales: tuple[float, float]
    low: float
    high: float
    sqnr_db: float | None = None
    values: Histogram | None = None


@dataclass(frozen=True, slots=True)
class RangeUse:
    """How the values of a quantised tensor use the range that its integers can express.

    Attributes:
        dtype: Type of the integers.
        low: Smallest real value that the integers express.
        high: Largest.
        saturated: Share of the reference's values outside the range, 0 to 1.
        unused: Share of the range that the reference's values never reach, 0 to 1.
        scale: Size of one step; the largest where there is one per channel.
    """

    dtype: str
    low: float
    high: float
    saturated: float
    unused: float
    scale: float


@dataclass(frozen=True, slots=True)
class LayerParity:
    """One tensor of the reference beside the tensor of the candidate that stands for it.

    Attributes:
        tensor: Its name in the reference.
        candidate: Its name in the candidate.
        node: Node of the reference that makes it.
        op: That node's operator.
        sqnr_db: Signal to quantisation-noise ratio of what has accumulated up to here, in dB; `EXACT_DB` if equal.
        local_sqnr_db: The same for the error made by this layer alone, its inputs taken from the reference; None where
            the layer could not be run alone.
        cosine: Cosine similarity, -1 to 1.
        largest_error: Largest absolute difference.
        low: Smallest value of the reference.
        high: Largest value of the reference.
        candidate_low: Smallest value of the candidate.
        candidate_high: Largest value of the candidate.
        range: How the integers' range is used; None where the tensor is not quantised.
        precision: What the candidate's layer really computes in, where the runtime says: `int8`, `float16`, ...
        matched: How the two were found to be the same: `name`, `values` or `order`.
        candidate_node: The candidate's node that makes its tensor.
        candidate_op: That node's operator.
        not_finite: Values of the candidate that are not a number or infinite; they count in no other figure.
        values: Of the reference.
        candidate_values: Of the candidate.
        weights: How its weights are stored, where they are integers.
        pairs: A few values of the reference, each with the candidate's in the same place.
    """

    tensor: str
    candidate: str
    node: str
    op: str
    sqnr_db: float
    local_sqnr_db: float | None
    cosine: float
    largest_error: float
    low: float
    high: float
    candidate_low: float
    candidate_high: float
    range: RangeUse | None = None
    precision: str = ""
    matched: str = "name"
    candidate_node: str = ""
    candidate_op: str = ""
    not_finite: int = 0
    values: Histogram | None = None
    candidate_values: Histogram | None = None
    weights: WeightUse | None = None
    pairs: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """Two models on the same samples through their real runtimes; saved as `parity.json`.

    Attributes:
        reference: What was compared with: path, runtime.
        candidate: What was compared: path, runtime.
        samples: How many samples both ran on.
        layers: In the reference's graph order.
        outputs: The models' outputs, in order, without a local error.
        unmatched: Tensor of the reference -> why nothing of the candidate stands for it.
        conditions: Split, seed, versions of the runtimes.
    """

    reference: str
    candidate: str
    samples: int
    layers: tuple[LayerParity, ...]
    outputs: tuple[LayerParity, ...]
    unmatched: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Suspect:
    """One explanation of a loss, with what it rests on and what to do.

    Attributes:
        stage: One of `STAGES`.
        cause: A cause by its name, e.g. `accumulator saturation`, `joined ranges`, `channel order`.
        node: The first guilty node of the reference; empty where the stage has no layers.
        tensor: The tensor where it shows; empty where there is none.
        score: How sure, 0 to 1; suspects are listed by it.
        evidence: What was measured, one sentence with its figures.
        fix: A command to run.
    """

    stage: str
    cause: str
    node: str
    tensor: str
    score: float
    evidence: str
    fix: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why accuracy dropped; saved as `diagnosis.json`.

    Attributes:
        stage: Where it was lost; empty where nothing was.
        suspects: The likeliest first.
        stages: Stage -> SQNR in dB of the output that is left after it, where it could be told.
        parity: What it rests on.
    """

    stage: str
    suspects: tuple[Suspect, ...]
    stages: Mapping[str, float] = field(default_factory=dict)
    parity: Parity | None = None
