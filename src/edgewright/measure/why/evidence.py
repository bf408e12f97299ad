"""What is known when the rules begin: plain figures, so that a rule can be read and tested without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Range = tuple[float, float]
ACTIVATION, WEIGHTS, BIAS = "activation", "weights", "bias"


@dataclass(frozen=True, slots=True)
class Unit:
    """One thing that was rounded: an activation, the weights or the bias of a layer.

    Attributes:
        kind: `activation`, `weights` or `bias`.
        tensor: Its name in the reference.
        node: The reference's node that makes it, or whose weights they are.
        candidate_node: The candidate's.
        op: That node's operator.
        gain_db: What undoing this one rounding brings back at the output.
        alone_db: What is left of the values after this rounding alone.
        range: Real values that the integers express; the widest channel's for weights.
        data: Smallest and largest value of the reference on the samples compared.
        calibration: The same on the calibration split; None without one.
        clipped: Share of values outside the range.
        channels: Largest magnitude per channel.
        per_channel: One scale per channel.
        sharing: Tensor -> smallest and largest value, of the tensors joined under the same scale.
        join: Node that joins them.
        batch_norm: The candidate's batch norm that reads it; empty where there is none.
        float_node: Node that computes in float although it stands between quantisers; empty where there is none.
        at_limit: Integers that stand at the limits of their type and hold another value than the reference's.
        error: Largest error relative to the largest value.
        pair: The candidate's nodes that make it and read it: kept float, it need not be rounded.
        evenable: It stands between two layers with weights and nothing but ReLU: its channels can be evened out.
    """

    kind: str
    tensor: str
    node: str
    candidate_node: str
    op: str
    gain_db: float
    alone_db: float
    range: Range
    data: Range
    calibration: Range | None = None
    clipped: float = 0.0
    channels: tuple[float, ...] = ()
    per_channel: bool = False
    sharing: Mapping[str, Range] = field(default_factory=dict)
    join: str = ""
    batch_norm: str = ""
    float_node: str = ""
    at_limit: int = 0
    error: float = 0.0
    pair: tuple[str, ...] = ()
    evenable: bool = False


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """One layer that computes something else in float.

    Attributes:
        stage: `import`, `clean-up` or `conversion`.
        node: The reference's node.
        tensor: What it makes.
        local_db: What is left of its result when its inputs are the reference's.
        attribute: Attribute that differs, with both values; empty where none does.
        weights_db: How much of the reference's weights is in the candidate's; None where it has none.
    """

    stage: str
    node: str
    tensor: str
    local_db: float
    attribute: str = ""
    weights_db: float | None = None


@dataclass(frozen=True, slots=True)
class RuntimeDifference:
    """One layer that the runtime computes otherwise than the arithmetic of the graph says.

    Attributes:
        node: The reference's node.
        tensor: What it makes.
        differing: Share of its integers that differ by more than one step.
        largest: Largest difference in steps.
        pair_sum: Largest sum of two products of neighbouring weights that is possible, over 32767.
        op: Operator.
    """

    node: str
    tensor: str
    differing: float
    largest: float
    pair_sum: float
    op: str


@dataclass(frozen=True, slots=True)
class Overflow:
    """An activation that half precision cannot hold."""

    node: str
    candidate_nodes: tuple[str, ...]
    tensor: str
    largest: float
    not_finite: int


@dataclass(frozen=True, slots=True)
class Convention:
    """A change of the model's input that explains the difference.

    Attributes:
        cause: `channel order`, `input scale`, `mean and std` or `layout`.
        strength: 0 to 1.
        evidence: With figures.
        preprocess: Tables that the candidate needs.
    """

    cause: str
    strength: float
    evidence: str
    preprocess: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelOrder:
    """Class names or outputs in another order.

    Attributes:
        evidence: With figures.
        labels: The names in the order of the candidate's outputs.
        strength: 0 to 1.
    """

    evidence: str
    labels: tuple[str, ...]
    strength: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the quantisers cut off of the samples compared and of the calibration split.

    Attributes:
        tensors: How many quantised activations were compared.
        clipped: Mean share of the values of the samples compared that lies outside the ranges.
        clipped_there: The same on the calibration split.
        ratio: Median ratio of the spans of the values, samples compared to calibration split.
        input_ratio: The same for the model's input.
    """

    tensors: int
    clipped: float
    clipped_there: float
    ratio: float
    input_ratio: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything gathered.

    Attributes:
        stages: Stage -> what it alone leaves of the output, in dB.
        units: What was rounded, those whose undoing helps most first.
        layers: Layers that differ in float, in graph order.
        runtime: Layers that the runtime computes otherwise, in graph order.
        overflows: In graph order.
        conventions: Of the input.
        labels: Order of the classes.
        calibration: Of the whole graph.
        scheme: Name of the quantisation scheme; empty for float candidates.
        safe_8_bits: The processor adds products of 8-bit weights without saturating.
        paths: Of `reference`, `candidate`, `project` and `deployed`, as given.
        quantised: The candidate has quantisers.
        half: The candidate computes in half precision.
        session: Session options of the artifact.
    """

    stages: Mapping[str, float]
    paths: Mapping[str, str]
    units: tuple[Unit, ...] = ()
    layers: tuple[LayerDifference, ...] = ()
    runtime: tuple[RuntimeDifference, ...] = ()
    overflows: tuple[Overflow, ...] = ()
    conventions: tuple[Convention, ...] = ()
    labels: LabelOrder | None = None
    calibration: Calibration | None = None
    scheme: str = ""
    safe_8_bits: bool = True
    quantised: bool = False
    half: bool = False
    session: Mapping[str, str] = field(default_factory=dict)
