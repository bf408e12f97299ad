"""From profiled operators of some pruned forms, and the time of each form as a whole, to rates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edgewright.core.costs import Extent, LayerShape, Probe, Rates
from edgewright.core.target import NodePlacement, OperatorTime

REST = "rest"
"""Kind of what the profile shows beside the model's own operators: changes of layout, conversions."""
_PER_VALUE = 4.0
"""Multiply-accumulates that take about as long as a value moved."""
_LEAST_SCALE, _MOST_SCALE = 0.3, 3.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """One form of the model that was run.

    Attributes:
        sizes: Group -> channels.
        ratio: Its time relative to the whole model's.
        times: Node of the model -> microseconds of the kernels it runs in; `""` for what belongs to none.
        fused: Node that has a time -> operators that its kernel computes along.
    """

    sizes: Mapping[str, int]
    ratio: float
    times: Mapping[str, float]
    fused: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rates of every kind, and what the whole model costs besides."""

    layers: tuple[LayerShape, ...]
    rates: Mapping[str, Rates]
    rest: float

    def at(self, sizes: Mapping[str, int]) -> float:
        """Returns the microseconds of the model at these sizes."""
        return self.rest + sum(self.rates[s.kind].at(s.features(sizes)) for s in self.layers if s.kind in self.rates)


def attribute(
    operators: Iterable[OperatorTime],
    placement: Iterable[NodePlacement],
    shapes: Mapping[str, LayerShape],
    origins: Mapping[str, tuple[str, ...]],
) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """Gives the time of every kernel to the operator with products among those it computes, or to the first.

    Args:
        operators: As profiled.
        placement: Which operators of what was compiled each kernel computes.
        shapes: Operators of the model.
        origins: Operator of what was compiled -> operators of the model; those that are missing kept their names.

    Returns:
        Node -> microseconds, `""` for kernels of no node; and node -> operators computed along.
    """
    sources = {(place.node, place.op): place.source for place in placement}
    times: dict[str, float] = {}
    fused: dict[str, tuple[str, ...]] = {}
    for operator in operators:
        given = sources.get((operator.node, operator.op), (operator.node,))
        nodes = [n for name in given for n in origins.get(name, (name,)) if n in shapes]
        main = [n for n in nodes if _has_products(shapes[n])] or nodes[:1] or [""]
        for node in main:
            times[node] = times.get(node, 0.0) + operator.microseconds / len(main)
            along = sorted({shapes[n].op for n in nodes if n not in main})
            if node:
                fused[node] = tuple(along)
    return times, fused


def shared_out(layers: Iterable[LayerShape], seen: Seen, microseconds: float) -> Seen:
    """Returns a form whose runtime tells nothing of its operators with times shared out by arithmetic and memory.

    Args:
        layers: Every operator.
        seen: Without times.
        microseconds: Time of the whole model.
    """
    weights = {shape.node: _work(shape, seen.sizes) for shape in layers}
    each = seen.ratio * microseconds / max(sum(weights.values()), 1e-9)
    return replace(seen, times={node: weight * each for node, weight in weights.items() if weight})


def _work(shape: LayerShape, sizes: Mapping[str, int]) -> float:
    _, read, written, products = shape.features(sizes)
    return products + _PER_VALUE * (read + written)


def _has_products(shape: LayerShape) -> bool:
    return bool(shape.depth.base or shape.depth.per)


def fit(layers: Sequence[LayerShape], seen: Sequence[Seen], microseconds: float) -> Fitted:
    """Fits rates per kind to the operators' times, then all of them to the times of the whole forms.

    Profiling costs time per kernel, so the sums are stretched, and every kernel shifted, until they agree with what was
    timed without it: the interleaved timing says what a form costs, its profile only how that is shared out.

    Args:
        layers: Every operator.
        seen: The forms that were run.
        microseconds: Time of the whole model.
    """
    known, seen = _kinds(layers, seen), _steadied(seen, microseconds)
    rates = {kind: _rates_of(kind, known, seen) for kind in sorted({s.kind for s in known if _timed(s, seen)})}
    plain = Fitted(known, rates, 0.0)
    sums = np.asarray([plain.at(each.sizes) for each in seen])
    wanted = np.asarray([each.ratio * microseconds for each in seen])
    counts = np.asarray([sum(s.kind in rates and s.there(each.sizes) for s in known) for each in seen], np.float64)
    scale, each = _stretch(sums, wanted, counts)
    return Fitted(known, {kind: _moved(found, scale, each) for kind, found in rates.items()}, 0.0)


def check(layers: Sequence[LayerShape], seen: Sequence[Seen], microseconds: float) -> tuple[Probe, ...]:
    """Returns every form with what is said of it by a fit to the others; the first is the whole model."""
    found = []
    for index, each in enumerate(seen[1:], start=1):
        others = [*seen[:index], *seen[index + 1 :]]
        fitted = fit(layers, others, microseconds)
        found.append(Probe(each.sizes, each.ratio, fitted.at(each.sizes) / fitted.at(seen[0].sizes)))
    return tuple(found)


def _kinds(layers: Sequence[LayerShape], seen: Sequence[Seen]) -> tuple[LayerShape, ...]:
    """Tells operators apart by what is fused into them, too, and adds what belongs to no operator."""
    fused = {node: along for each in seen for node, along in each.fused.items()}
    named = tuple(replace(s, kind=" + ".join((s.kind, *fused.get(s.node, ())))) for s in layers)
    return (*named, LayerShape("", "", REST, _sum(s.inputs for s in layers), _sum(s.outputs for s in layers)))


def _sum(extents: Iterable[Extent]) -> Extent:
    base, per = 0.0, dict[str, float]()
    for extent in extents:
        base += extent.base
        for group, each in extent.per.items():
            per[group] = per.get(group, 0.0) + each
    return Extent(base, per)


def _timed(shape: LayerShape, seen: Sequence[Seen]) -> bool:
    return any(shape.node in each.times for each in seen)


def _rates_of(kind: str, layers: Sequence[LayerShape], seen: Sequence[Seen]) -> Rates:
    same = [s for s in layers if s.kind == kind]
    rows = [(s.features(each.sizes), each.times.get(s.node, 0.0)) for s in same for each in seen]
    features, times = np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])
    return Rates(*(float(rate) for rate in non_negative(features, times)))


def non_negative(features: Array, wanted: Array) -> Array:
    """Returns the least-squares solution without negative entries: the best of all subsets of the few columns.

    Args:
        features: [rows, columns], few columns.
        wanted: [rows].
    """
    columns = features.shape[1]
    scales = np.maximum(np.abs(features).max(axis=0), 1e-12)
    scaled = features / scales
    best, error = np.zeros(columns), float(wanted @ wanted)
    for count in range(1, columns + 1):
        for chosen in combinations(range(columns), count):
            found, *_ = np.linalg.lstsq(scaled[:, chosen], wanted, rcond=1e-8)
            left = wanted - scaled[:, chosen] @ found
            if (found >= 0).all() and float(left @ left) < error * (1 - 1e-6) - 1e-12:
                best, error = np.zeros(columns), float(left @ left)
                best[list(chosen)] = found
    return np.asarray(best / scales, np.float64)


def _steadied(seen: Sequence[Seen], microseconds: float) -> tuple[Seen, ...]:
    """Scales each profile as a whole to what the timing of its form lets expect: the machine changes meanwhile."""
    sums = np.asarray([sum(each.times.values()) for each in seen])
    wanted = np.asarray([each.ratio * microseconds for each in seen])
    counts = np.asarray([len(each.times) for each in seen], np.float64)
    scale, shift = _stretch(wanted, sums, counts)
    factors = (scale * wanted + shift * counts) / np.maximum(sums, 1e-9)
    return tuple(
        replace(each, times={node: time * float(factor) for node, time in each.times.items()})
        for each, factor in zip(seen, factors, strict=True)
    )


def _stretch(sums: Array, wanted: Array, counts: Array) -> tuple[float, float]:
    """Returns factor, and shift per kernel, from summed operators to whole runs, by relative error; within reason."""
    weights = 1 / np.maximum(wanted, 1e-9)
    design = np.stack([sums * weights, counts * weights], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(design, np.ones_like(wanted), rcond=None)
    if len(wanted) < 3 or not _LEAST_SCALE <= scale <= _MOST_SCALE:
        scale, shift = float(np.median(wanted / np.maximum(sums, 1e-9))), 0.0
    return float(scale), float(shift)


def _moved(rates: Rates, scale: float, shift: float) -> Rates:
    return Rates(rates.fixed * scale + shift, rates.read * scale, rates.written * scale, rates.product * scale)
