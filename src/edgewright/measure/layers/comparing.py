"""Two models on the same samples, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.parity import LayerParity, Parity, RangeUse, WeightUse
from edgewright.errors import DataError
from edgewright.measure.layers.feeding import Feeding, feeding
from edgewright.measure.layers.matching import Match, fit, match
from edgewright.measure.layers.sides import Feed, Integers, LocalRunner, Side
from edgewright.measure.layers.sums import Difference, Extremes, histogram

PAIRS = 64
"""Pairs of values kept per tensor."""
Progress = Callable[[float, str], None]


@dataclass(slots=True)
class _Layer:
    """What is gathered about one pair."""

    match: Match
    total: Difference = field(default_factory=Difference)
    alone: Difference = field(default_factory=Difference)
    reference: Extremes = field(default_factory=Extremes)
    candidate: Extremes = field(default_factory=Extremes)
    seen: int = 0
    outside: int = 0
    pairs: tuple[tuple[float, float], ...] = ()

    def add(self, one: NDArray[Any], other: NDArray[Any]) -> None:
        self.pairs = self.pairs or _pairs(one, other)
        self.total.add(one, other)
        self.reference.add(one)
        self.candidate.add(other)
        integers = self.match.candidate.integers
        if integers is not None:
            half = max(integers.scale) / 2
            self.outside += int(((one < integers.low - half) | (one > integers.high + half)).sum())
            self.seen += one.size


def compare_sides(
    reference: Side, candidate: Side, feeds: Iterable[Feed], *, local: bool = True, progress: Progress | None = None
) -> Parity:
    """Runs both on every feed and compares what each layer gives.

    Args:
        reference: What counts as right.
        candidate: What is judged.
        feeds: The reference's inputs, one batch each; gone through once. The first one also finds the pairs.
        local: Also run each layer of the candidate on the reference's values, where its runtime can.
        progress: Told the number of the batch.

    Raises:
        DataError: There are no samples, or the candidate cannot be fed with them.
    """
    with ExitStack() as stack:
        state: _State | None = None
        samples = 0
        for number, feed in enumerate(feeds):
            if state is None:
                state = _State(reference, candidate, feed)
                given = [layer.match.candidate for layer in state.layers] if local else []
                state.parts = stack.enter_context(candidate.local(given)) if given else None
            state.add(feed)
            samples += next((len(a) for a in feed.values() if a.ndim), 1)
            if progress is not None:
                progress(float(number + 1), f"sample {samples}")
        if state is None:
            raise DataError("there are no samples to compare on", hint="name a split that has some, or give --inputs")
        return state.done(samples)


class _State:
    def __init__(self, reference: Side, candidate: Side, feed: Feed) -> None:
        self.sides = reference, candidate
        self.feeding: Feeding = feeding(reference, candidate, feed)
        values = reference.run(feed), candidate.run(self.feeding(feed))
        found, self.unmatched = match(reference.taps, candidate.taps, values, candidate.hidden)
        self.layers = [_Layer(pair) for pair in found]
        self.outputs = [_Layer(pair) for pair in _outputs(reference, candidate, values)]
        self.parts: LocalRunner | None = None

    def add(self, feed: Feed) -> None:
        fed = self.feeding(feed)
        left, right = self.sides[0].run(feed), self.sides[1].run(fed)
        given: dict[str, NDArray[Any]] = {}
        for layer in (*self.layers, *self.outputs):
            pair = layer.match
            one, other = left[pair.reference.source], right[pair.candidate.source]
            layer.add(one, pair.layout.to_reference(other, one.shape))
            given[pair.candidate.source] = pair.layout.to_candidate(one, other.shape)
        if self.parts is not None:
            alone = self.parts.run(fed, given)
            for layer in self.layers:
                source = layer.match.candidate.source
                if source in alone:
                    layer.alone.add(given[source], alone[source])

    def done(self, samples: int) -> Parity:
        reference, candidate = self.sides
        ran = self.parts is not None
        return Parity(
            reference.title,
            candidate.title,
            samples,
            tuple(_parity(layer, self.sides, ran) for layer in self.layers),
            tuple(replace(_parity(layer, self.sides, ran), local_sqnr_db=None) for layer in self.outputs),
            self.unmatched,
            _conditions(reference, candidate),
        )


def _conditions(reference: Side, candidate: Side) -> dict[str, str]:
    found = {"reference runtime": reference.runtime, "candidate runtime": candidate.runtime}
    for word, side in (("reference", reference), ("candidate", candidate)):
        found |= {f"{word} note {n}": text for n, text in enumerate(side.notes, start=1)}
    return found


def _outputs(reference: Side, candidate: Side, values: tuple[Mapping[str, Any], Mapping[str, Any]]) -> list[Match]:
    """Pairs outputs by name, the others by position."""
    if len(reference.outputs) != len(candidate.outputs):
        raise DataError(
            f"the reference has {len(reference.outputs)} outputs, the candidate {len(candidate.outputs)}",
            hint="compare models that give the same outputs",
        )
    named = {tap.tensor: tap for tap in candidate.outputs}
    same = {tap.tensor for tap in reference.outputs} == set(named)
    pairs = [(tap, named[tap.tensor] if same else candidate.outputs[i]) for i, tap in enumerate(reference.outputs)]
    found = []
    for one, other in pairs:
        _, layout = fit(values[0][one.source], values[1][other.source])
        if layout is None:
            shapes = values[0][one.source].shape, values[1][other.source].shape
            raise DataError(
                f"output {one.tensor}: the reference gives {list(shapes[0])}, the candidate {list(shapes[1])}",
                hint="compare models that give the same outputs",
            )
        found.append(Match(one, other, layout, "name" if same else "order"))
    return found


def _parity(layer: _Layer, sides: tuple[Side, Side], ran_alone: bool) -> LayerParity:
    pair, total = layer.match, layer.total
    low, high = layer.reference.range
    alone = layer.alone if ran_alone and (layer.alone.signal or layer.alone.noise) else None
    return LayerParity(
        tensor=pair.reference.tensor,
        candidate=pair.candidate.tensor,
        node=pair.reference.node,
        op=pair.reference.op,
        sqnr_db=total.sqnr_db,
        local_sqnr_db=None if alone is None else alone.sqnr_db,
        cosine=total.cosine,
        largest_error=total.largest,
        low=low,
        high=high,
        candidate_low=layer.candidate.range[0],
        candidate_high=layer.candidate.range[1],
        range=_range_use(pair.candidate.integers, layer),
        precision=pair.candidate.precision,
        matched=pair.how,
        candidate_node=pair.candidate.node,
        candidate_op=pair.candidate.op,
        not_finite=total.not_finite,
        values=layer.reference.bins.done(),
        candidate_values=layer.candidate.bins.done(),
        weights=_weight_use(sides, pair),
        pairs=layer.pairs,
    )


def _pairs(one: NDArray[Any], other: NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """Takes values at random places, which are those of all channels."""
    places = np.random.default_rng(0).integers(0, max(one.size, 1), min(one.size, PAIRS))
    x, y = one.reshape(-1)[places], other.reshape(-1)[places]
    kept = np.isfinite(x) & np.isfinite(y)
    return tuple((float(f"{a:.5g}"), float(f"{b:.5g}")) for a, b in zip(x[kept], y[kept], strict=True))


def _range_use(integers: Integers | None, layer: _Layer) -> RangeUse | None:
    if integers is None:
        return None
    low, high = integers.low, integers.high
    least, most = layer.reference.range
    reached = max(min(high, most) - max(low, least), 0.0) / (high - low)
    saturated = layer.outside / layer.seen if layer.seen else 0.0
    return RangeUse(integers.dtype, low, high, saturated, min(max(1.0 - reached, 0.0), 1.0), max(integers.scale))


def _weight_use(sides: tuple[Side, Side], pair: Match) -> WeightUse | None:
    stored = sides[1].weights(pair.candidate)
    if stored is None or stored.integers is None:
        return None
    wanted = sides[0].weights(pair.reference)
    difference, values = None, stored.real
    if wanted is not None:
        _, layout = fit(wanted.real, stored.real)
        if layout is not None:
            difference, values = Difference(), wanted.real
            difference.add(wanted.real, layout.to_reference(stored.real, wanted.real.shape))
    scales = stored.integers.scale
    return WeightUse(
        stored.tensor,
        stored.integers.dtype,
        (min(scales), max(scales)),
        stored.integers.low,
        stored.integers.high,
        None if difference is None else difference.sqnr_db,
        histogram(values),
    )
