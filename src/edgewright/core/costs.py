"""What a model costs as a function of how many channels each group keeps: `costs.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COSTS_FILE = "costs.json"
_CLEARLY = 1.05


@dataclass(frozen=True, slots=True)
class Extent:
    """A number that depends linearly on the sizes of groups.

    Attributes:
        base: What no group changes.
        per: Group -> what each of its channels adds.
    """

    base: float
    per: Mapping[str, float] = field(default_factory=dict)

    def at(self, sizes: Mapping[str, int]) -> float:
        """Returns the number when groups have these sizes; every group of `per` must be there."""
        return self.base + sum(each * sizes[group] for group, each in self.per.items())


@dataclass(frozen=True, slots=True)
class LayerShape:
    """How large one operator is.

    Attributes:
        node: Its name in the model.
        op: Its operator.
        kind: What operators have in common whose time follows the same curve: operator, attributes, positions.
        inputs: Values it reads for one sample, weights left out.
        outputs: Values it writes for one sample.
        depth: Multiply-accumulates per value written; 0 for operators without products.
        weights: Stored weights per multiply-accumulate.
        branches: Residual branches it belongs to: it goes with any of them.
    """

    node: str
    op: str
    kind: str
    inputs: Extent
    outputs: Extent
    depth: Extent = Extent(0.0)
    weights: float = 0.0
    branches: tuple[str, ...] = ()

    @property
    def groups(self) -> frozenset[str]:
        """Groups and branches that change its size."""
        return frozenset((*self.inputs.per, *self.outputs.per, *self.depth.per, *self.branches))

    def there(self, sizes: Mapping[str, int]) -> bool:
        """Tells whether every branch it belongs to is there; branches that `sizes` does not name are."""
        return all(sizes.get(branch, 1) for branch in self.branches)

    def macs(self, sizes: Mapping[str, int]) -> float:
        """Returns multiply-accumulates for one sample."""
        return self.outputs.at(sizes) * self.depth.at(sizes) if self.there(sizes) else 0.0

    def parameters(self, sizes: Mapping[str, int]) -> float:
        """Returns stored weights."""
        return self.macs(sizes) * self.weights

    def features(self, sizes: Mapping[str, int]) -> tuple[float, float, float, float]:
        """Returns what its time is linear in: 1, values read, values written, multiply-accumulates."""
        if not self.there(sizes):
            return 0.0, 0.0, 0.0, 0.0
        return 1.0, self.inputs.at(sizes), self.outputs.at(sizes), self.macs(sizes)


@dataclass(frozen=True, slots=True)
class Rates:
    """Microseconds: for being run at all, per value read, per value written, per multiply-accumulate."""

    fixed: float
    read: float
    written: float
    product: float

    def at(self, features: tuple[float, float, float, float]) -> float:
        """Returns the microseconds of an operator with these features."""
        one, read, written, products = features
        return self.fixed * one + self.read * read + self.written * written + self.product * products


@dataclass(frozen=True, slots=True)
class Probe:
    """A pruned form of the model that was really run.

    Attributes:
        sizes: Group -> channels kept.
        measured: Time relative to the whole model in the same interleaved run.
        predicted: What the table says of it, fitted without it.
    """

    sizes: Mapping[str, int]
    measured: float
    predicted: float


@dataclass(frozen=True, slots=True)
class CostTable:
    """Measured costs of a model on one target.

    Attributes:
        target: Name of the target.
        scheme: Quantisation scheme it was measured in; empty for float.
        threads: Intra-operator threads.
        device: Address of the machine; empty for the one that made it.
        sizes: Group -> channels of the whole model.
        layers: Every operator.
        rates: Kind -> rates of its operators; kinds without time of their own (fused into others) are missing.
        rest: Microseconds of what belongs to no operator of the model, and is always there.
        microseconds: Measured time of the whole model.
        probes: What it was fitted to.
        align: Multiple that sizes had in the probes.
        between: A form whose sizes lie half-way between such multiples; None where no group is large enough.
    """

    target: str
    scheme: str
    threads: int
    device: str
    sizes: Mapping[str, int]
    layers: tuple[LayerShape, ...]
    rates: Mapping[str, Rates]
    rest: float
    microseconds: float
    probes: tuple[Probe, ...] = ()
    align: int = 8
    between: Probe | None = None

    @property
    def steps(self) -> bool:
        """Whether time goes up in steps of `align`: sizes between cost clearly more than the curve says."""
        return self.between is not None and self.between.measured > _CLEARLY * self.between.predicted

    @property
    def error(self) -> float:
        """Largest relative difference between a probe and what the table, fitted without it, says of it."""
        return max((abs(p.predicted / p.measured - 1) for p in self.probes), default=0.0)

    def layer(self, shape: LayerShape, sizes: Mapping[str, int]) -> float:
        """Returns the microseconds of one operator."""
        rates = self.rates.get(shape.kind)
        return rates.at(shape.features(sizes)) if rates else 0.0

    def predict(self, sizes: Mapping[str, int]) -> float:
        """Returns the microseconds of the whole model; groups that `sizes` does not name keep all channels."""
        whole = {**self.sizes, **sizes}
        return self.rest + sum(self.layer(shape, whole) for shape in self.layers)

    def relative(self, sizes: Mapping[str, int]) -> float:
        """Returns predicted time relative to that of the whole model."""
        return self.predict(sizes) / self.predict({})
