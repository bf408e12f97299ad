"""Range methods: from a histogram to the range that a quantiser covers; pure functions.

- `minmax`: everything.
- `percentile`: all but a given share, half of it on each side.
- `mse`: the least expected squared error (Nagel et al. 2021, "A White Paper on Neural Network Quantization", 3.1).
- `entropy`: the least divergence between the clipped distribution and what its quantised form tells of it.
- `auto`: whichever of them errs least, tensor by tensor, on samples that it was not chosen from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from edgewright.errors import ConfigError
from edgewright.graph.affine import Grid
from edgewright.graph.range_entropy import least_divergence
from edgewright.graph.range_error import Floats, Shape, Tails, clipped_share, expected_error
from edgewright.graph.statistics import TensorStatistics
from edgewright.graph.statistics.histogram import percentile

METHODS = ("minmax", "percentile", "mse", "entropy", "auto")
PERCENTS = (99.9, 99.99, 99.999)
"""Percentiles that `auto` tries."""
WORTH = 0.02
"""`auto` leaves the extremes only for an error that is less by this share."""
Range = tuple[float, float]
Method = Callable[[Shape], Range]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A range, which contains zero, and where it comes from.

    Attributes:
        low: Lower end, at most 0.
        high: Upper end, at least 0.
        title: The method, in words.
    """

    low: float
    high: float
    title: str


def check_method(method: str) -> None:
    """Checks the name of a range method.

    Raises:
        ConfigError: There is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f'ranges "{method}", expected one of {", ".join(METHODS)}', hint="correct the field `ranges`")


def choose(seen: TensorStatistics, method: str, grid: Grid, symmetric: bool, percent: float = 99.999) -> Chosen:
    """Chooses the range of one tensor.

    Args:
        seen: What calibration saw.
        method: One of `METHODS`.
        grid: Integers of the quantiser.
        symmetric: Its zero point stands in the middle.
        percent: Share of values inside, for `percentile`.

    Raises:
        ConfigError: There is no such method.
        ValueError: The method needs a histogram and there is none, or `percent` is not within (50, 100].
    """
    check_method(method)
    if method == "minmax":
        return Chosen(min(seen.low, 0.0), max(seen.high, 0.0), "extremes")
    shape = Shape(seen.edges, seen.counts.astype(np.float64))
    if method == "auto":
        title, found = _errs_least(seen, grid, symmetric)
        low, high = found(shape)
    elif method == "percentile":
        title, (low, high) = _percent_title(percent), seen.percentile(percent)
    else:
        title, found = _method(method, grid, symmetric)
        low, high = found(shape)
    return Chosen(min(low, 0.0), max(high, 0.0), title)


def clipped(seen: TensorStatistics, low: float, high: float) -> float:
    """Returns the share of values outside [`low`, `high`]; 0 without a histogram."""
    if not seen.counts.size or (low <= seen.low and high >= seen.high):
        return 0.0
    return clipped_share(Shape(seen.edges, seen.counts.astype(np.float64)), low, high)


def union(a: Chosen, b: Chosen) -> Chosen:
    """Returns the range that covers both, for tensors that share one scale."""
    title = a.title if a.title == b.title else ", ".join(sorted({*a.title.split(", "), *b.title.split(", ")}))
    return Chosen(min(a.low, b.low), max(a.high, b.high), title)


def error_of(seen: TensorStatistics, low: float, high: float, grid: Grid, symmetric: bool) -> float:
    """Returns the expected squared error of quantising to a range.

    Raises:
        ValueError: There is no histogram.
    """
    return float(expected_error(Shape(seen.edges, seen.counts.astype(np.float64)), low, high, grid, symmetric)[0])


def least_error(shape: Shape, grid: Grid, symmetric: bool) -> Range:
    """Returns the range with the least expected squared error; never one with more than that of the extremes.

    Ends are searched on a coarse grid, and on finer ones around the best, by an approximation; the best few are then
    compared exactly.
    """
    tails, levels = Tails(shape), float(grid.high - grid.low)
    picked: list[Range] = [(shape.low, shape.high)]
    shares, step = (np.exp2(-np.linspace(0.0, 9.0, 37)),) * 2, 0.25
    for _ in range(3):
        low, high = _pairs(shape, *shares, symmetric)
        width = 2 * np.maximum(-low, high) if symmetric else high - low
        errors = tails.errors(low, high, width / levels)
        best = np.unravel_index(int(np.argmin(errors)), errors.shape)
        low, high = np.broadcast_arrays(low, high)
        picked.append((float(low[best]), float(high[best])))
        shares = _around(picked[-1][0], shape.low, step), _around(picked[-1][1], shape.high, step)
        step /= 4
    low, high = np.asarray(picked).T
    return picked[int(np.argmin(expected_error(shape, low, high, grid, symmetric)))]


def _pairs(shape: Shape, lows: Floats, highs: Floats, symmetric: bool) -> tuple[Floats, Floats]:
    """Returns lower ends as a column and upper ends as a row; of symmetric ranges, pairs."""
    if symmetric:
        reach = max(-shape.low, shape.high) * (highs if shape.high >= -shape.low else lows)
        return np.maximum(-reach, shape.low), np.minimum(reach, shape.high)
    low = shape.low * lows if shape.low < 0 else np.zeros(1)
    high = shape.high * highs if shape.high > 0 else np.zeros(1)
    return low[:, None], high[None]


def _around(end: float, extreme: float, step: float) -> Floats:
    """Returns shares of `extreme` around `end`, up to one step of the grid before in either direction."""
    share = end / extreme if extreme else 1.0
    return np.minimum(share * np.exp2(np.linspace(-step, step, 9)), 1.0)


def _method(name: str, grid: Grid, symmetric: bool) -> tuple[str, Method]:
    if name == "mse":
        return "least squared error", lambda shape: least_error(shape, grid, symmetric)
    return "least divergence", lambda shape: least_divergence(shape, grid, symmetric)


def _extremes(shape: Shape) -> Range:
    return shape.low, shape.high


def _percent_title(percent: float) -> str:
    return f"{percent:g}% of the values"


def _percentile(shape: Shape, percent: float) -> Range:
    low, high = percentile(shape.edges, shape.counts, percent)
    return min(low, 0.0), max(high, 0.0)


def _tried(grid: Grid, symmetric: bool) -> Iterator[tuple[str, Method]]:
    """Yields what `auto` compares with the extremes."""
    for percent in PERCENTS:
        yield _percent_title(percent), partial(_percentile, percent=percent)
    yield _method("mse", grid, symmetric)
    yield _method("entropy", grid, symmetric)


def _errs_least(seen: TensorStatistics, grid: Grid, symmetric: bool) -> tuple[str, Method]:
    """Returns the method with the least error on values that it did not choose from, and its name.

    Samples with an even index choose for those with an odd one, and the other way round.
    """
    halves = [Shape(seen.edges, each.astype(np.float64)) for each in seen.halves]
    methods = [("extremes", _extremes), *_tried(grid, symmetric)]
    errors = np.zeros(len(methods))
    for chosen_from, judged_by in (halves, halves[::-1]):
        low, high = np.asarray([method(chosen_from) for _, method in methods]).T
        errors += expected_error(judged_by, low, high, grid, symmetric) * judged_by.counts.sum()
    best = int(np.argmin(errors))
    return methods[best if errors[best] < (1 - WORTH) * errors[0] else 0]
