"""One pass over the samples: figures and sub-samples of each batch go into statistics of fixed size."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.graph.statistics.histogram import FINEST, Counts, bin_values, refit, span, values_within
from edgewright.graph.statistics.notes import noted
from edgewright.graph.statistics.probes import HIGH, LOW, PREFIX, SUM, Probe, Probes, probe, stride
from edgewright.graph.statistics.tensors import ChannelStatistics, Extreme, Statistics, TensorStatistics, stacked

Feed = Mapping[str, NDArray[Any]]
Infer = Callable[[Feed], Mapping[str, NDArray[Any]]]
"""Runs a model on one batch: input name -> array to output name -> array."""
Batch = tuple[Sequence[int], Feed]
"""Indices of the samples in their split, and their tensors stacked along a leading axis."""

LEAST = float(np.finfo(np.float32).min)
BINS = 4096
MOST_SKIPPED = 0.1
"""Share of samples without finite values from which on calibration is refused."""


def gather(
    open_infer: Callable[[ir.Model], Infer],
    model: ir.Model,
    batches: Iterable[Batch],
    *,
    bins: int = BINS,
    channels: bool = False,
    workers: int = 1,
) -> Statistics:
    """Gathers the statistics of `model` in one pass.

    Args:
        open_infer: Opens a model, e.g. `passes._infer.open_infer`.
        model: With inferred shapes.
        batches: Of any size, also differing; where the graph is fixed to one, smaller ones are filled up.
        bins: Most bins of a histogram; 0 gathers extremes only.
        channels: Per channel, too.
        workers: Batches that run side by side.

    Raises:
        DataError: There are no samples, an input has no data, or too many samples give values that are not finite.
    """
    coming = iter(batches)
    first = next(coming, None)
    if first is None:
        raise _empty()
    shapes = {name: array.shape for name, array in first[1].items()}
    probes = probe(model, histograms=bins > 0, channels=channels, shapes=shapes)
    gatherer = Gatherer(probes, open_infer(probes.model), bins)
    for _ in gatherer.add_all(itertools.chain([first], coming), workers):
        pass
    return gatherer.finish()


class Gatherer:
    """Statistics under way.

    Attributes:
        probes: What runs.
        samples: Seen so far, those left out not counted.
        skipped: Index of a sample left out -> the tensor that is not finite there.
    """

    def __init__(self, probes: Probes, infer: Infer, bins: int = BINS, start: Statistics | None = None) -> None:
        """`start` is what an earlier run of the same gathering had seen."""
        self.probes = probes
        self.samples = start.samples if start else 0
        self.skipped = dict(start.skipped) if start else {}
        self._infer = infer
        self._bins = bins
        seen = [start.tensors.get(p.name) if start else None for p in probes.tensors]
        self._low = _Reach([(-s.low, s.lowest) if s else None for s in seen], -1.0)
        self._high = _Reach([(s.high, s.highest) if s else None for s in seen], 1.0)
        self._histograms = [_Histogram(p, s) for p, s in zip(probes.tensors, seen, strict=True)]
        self._channels = [_Channels(p, s) for p, s in zip(probes.tensors, seen, strict=True)]

    def add(self, indices: Sequence[int], feed: Feed) -> None:
        """Takes in one batch.

        Raises:
            DataError: An input of the model has no data, or the batch is larger than the graph's.
        """
        self._absorb(indices, feed, self._run((indices, feed)))

    def add_all(self, batches: Iterable[Batch], workers: int = 1) -> Iterator[int]:
        """Takes in batches in their order, while the next ones run; yields the number of samples after each.

        Raises:
            DataError: As `add`.
        """
        with ThreadPoolExecutor(workers) as pool:
            running: deque[tuple[Batch, Future[Feed]]] = deque()
            for batch in batches:
                running.append((batch, pool.submit(self._run, batch)))
                if len(running) > workers:
                    yield self._absorb_next(running)
            while running:
                yield self._absorb_next(running)

    def _absorb_next(self, running: deque[tuple[Batch, Future[Feed]]]) -> int:
        (indices, feed), found = running.popleft()
        self._absorb(indices, feed, found.result())
        return len(indices)

    def _run(self, batch: Batch) -> Feed:
        return self._infer(self._filled(batch[1], len(batch[0])))

    def _absorb(self, indices: Sequence[int], feed: Feed, found: Feed) -> None:
        size = max(len(indices), self.probes.batch or 0)
        low = self._columns(found[PREFIX + LOW], size, len(indices))
        high = self._columns(found[PREFIX + HIGH], size, len(indices))
        total = self._columns(found[PREFIX + SUM], size, len(indices))
        bad = np.isnan(total) | (high == np.inf) | (low == np.inf)
        if not bad.any():
            self._take(indices, found, low, high)
        elif len(indices) > 1:
            for row, index in enumerate(indices):
                self.add([index], {name: array[row : row + 1] for name, array in feed.items()})
        else:
            self.skipped[int(indices[0])] = self.probes.tensors[int(np.argmax(bad.any(axis=1)))].name

    def partial(self) -> Statistics:
        """Returns what was seen so far: a checkpoint."""
        lows, highs = self._low.values(), self._high.values()
        made = {}
        for i, each in enumerate(self.probes.tensors):
            counts = self._histograms[i].counts
            exponent = self._histograms[i].exponent if counts.size else None
            (low, lowest), (high, highest) = lows[i], highs[i]
            channels = self._channels[i].found(self.samples)
            made[each.name] = TensorStatistics(
                low, high, counts.sum(axis=0), exponent, counts[1], lowest, highest, channels
            )
        return Statistics(self.samples, made if self.samples else {}, self._bins, {}, dict(self.skipped))

    def finish(self) -> Statistics:
        """Returns the statistics with their notes.

        Raises:
            DataError: There were no samples, or too many of them gave values that are not finite.
        """
        everything = self.samples + len(self.skipped)
        if not everything:
            raise _empty()
        if len(self.skipped) > MOST_SKIPPED * everything:
            first, name = min(self.skipped.items())
            raise DataError(
                f'activation "{name}" is not finite on {len(self.skipped)} of {everything} calibration samples '
                f"(the first one is sample {first}), expected finite values",
                hint="check the samples and the preprocessing; a float model that overflows cannot be calibrated",
            )
        return noted(self.partial())

    def _take(self, indices: Sequence[int], found: Feed, low: NDArray[Any], high: NDArray[Any]) -> None:
        low = np.where(low == -np.inf, LEAST, low)
        changed = self._low.update(-low, indices) | self._high.update(high, indices)
        self.samples += len(indices)
        ranges = list(zip((-self._low.reach).tolist(), self._high.reach.tolist(), strict=True))
        for i, each in enumerate(self.probes.tensors):
            if each.values:
                if changed[i]:
                    self._histograms[i].cover(*ranges[i], self._bins)
                self._histograms[i].add(found[each.values], indices)
            if each.channels:
                self._channels[i].add([found[name] for name in each.channels], len(indices))

    def _columns(self, figures: NDArray[Any], size: int, used: int) -> NDArray[np.float64]:
        """Returns one row per activation, one column per sample; the same in all where they are not told apart."""
        rows = sum(p.rows for p in self.probes.tensors)
        columns = np.full((len(self.probes.tensors), used), np.nan)
        columns[:rows] = figures[: rows * size].reshape(rows, size)[:, :used]
        columns[rows:] = figures[rows * size :, None]
        return columns

    def _filled(self, feed: Feed, used: int) -> Feed:
        """Returns `feed` with its last sample repeated up to the batch that the graph is fixed to."""
        for name in self.probes.inputs:
            if name not in feed:
                raise DataError(
                    f'input "{name}" of the model has no calibration data (there are data for: '
                    f"{', '.join(sorted(feed)) or 'none'})",
                    hint=f'let the [preprocess] of the project make a tensor named "{name}"',
                )
        batch = self.probes.batch
        named = {name: feed[name] for name in self.probes.inputs}
        if batch is None or batch == used:
            return named
        if used > batch:
            raise DataError(
                f"a batch of {used} calibration samples, the graph takes {batch}", hint="give batches of that size"
            )
        return {name: np.concatenate([a, np.repeat(a[-1:], batch - used, axis=0)]) for name, a in named.items()}


class _Reach:
    """How far each activation reaches on one side, who reached it, and how far all others got; grows outwards."""

    def __init__(self, start: Sequence[tuple[float, Extreme] | None], sign: float) -> None:
        self.sign = sign
        self.reach = np.array([s[0] if s else -np.inf for s in start])
        self.sample = np.array([s[1].sample if s else -1 for s in start])
        others = (None if s is None or s[1].others is None else sign * s[1].others for s in start)
        self.others = np.array([-np.inf if o is None else o for o in others])

    def update(self, columns: NDArray[np.float64], indices: Sequence[int]) -> NDArray[np.bool_]:
        """Takes in one column per sample; returns which activations reach further now."""
        before = self.reach.copy()
        for column, index in zip(columns.T, indices, strict=True):
            further = column > self.reach
            self.others = np.where(further, self.reach, np.maximum(self.others, column))
            self.sample = np.where(further, index, self.sample)
            self.reach = np.maximum(self.reach, column)
        return np.asarray(self.reach > before)

    def values(self) -> list[tuple[float, Extreme]]:
        rows = zip(self.reach.tolist(), self.sample.tolist(), self.others.tolist(), strict=True)
        return [
            (self.sign * reach, Extreme(sample, None if others == -np.inf else self.sign * others))
            for reach, sample, others in rows
        ]


class _Histogram:
    """The histograms of one activation: of samples with an even index, and of those with an odd one."""

    def __init__(self, probe: Probe, start: TensorStatistics | None) -> None:
        self.thinned, self.rows = probe.thin > 1, probe.rows
        self.counts: Counts = np.zeros((2, 0), np.int64)
        self.first, self.exponent, self.low, self.high = 0, FINEST, 0.0, 0.0
        if start is not None and start.exponent is not None:
            self.counts, self.exponent = stacked(start), start.exponent
            self.low, self.high = start.low, start.high
            self.first = span(start.low, start.high, start.exponent)[0]

    def cover(self, low: float, high: float, bins: int) -> None:
        """Makes room for [low, high]."""
        self.low, self.high = low, high
        self.counts, self.first, self.exponent = refit(self.counts, self.first, self.exponent, low, high, bins)

    def add(self, values: NDArray[np.float32], indices: Sequence[int]) -> None:
        """Counts values of shape [samples, values per sample], or [1, values] of the whole batch."""
        if not self.thinned and (step := stride(values.shape[1:])) > 1:
            values = values[:, ::step]  # its size was not known before it was there
        if self.low <= LEAST:
            values = values_within(values, self.low, self.high)
        if len(indices) == 1 or not self.rows:
            self._count(values[:1], indices[0] % 2)
            return
        for odd in (0, 1):
            self._count(values[[row for row, index in enumerate(indices) if index % 2 == odd]], odd)

    def _count(self, values: NDArray[np.float32], odd: int) -> None:
        self.counts[odd] += bin_values(values, self.first, self.exponent, self.counts.shape[1])


@dataclass(slots=True)
class _Channels:
    """Figures per channel of one activation; given up where the number of channels changes."""

    probe: Probe
    start: TensorStatistics | None
    low: NDArray[np.float32] | None = field(init=False, default=None)
    high: NDArray[np.float32] | None = field(init=False, default=None)
    total: NDArray[np.float64] | None = field(init=False, default=None)
    lost: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        seen = self.start.channels if self.start else None
        self.lost = self.start is not None and seen is None
        if seen is not None:
            self.low, self.high, self.total = seen.low, seen.high, seen.mean * seen.weight

    def add(self, figures: Sequence[NDArray[np.float32]], used: int) -> None:
        """Takes in smallest and largest values and means: [samples, channels], or [channels] of the whole batch."""
        figures = [f[:used] if self.probe.rows else f[None] for f in figures]
        low, high = figures[0].min(axis=0), figures[1].max(axis=0)
        mean = figures[2].astype(np.float64).mean(axis=0) * used
        if self.low is None or self.high is None or self.total is None:
            self.low, self.high, self.total = low, high, mean
        elif low.shape == self.low.shape:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
            self.total = self.total + mean
        else:
            self.lost = True

    def found(self, samples: int) -> ChannelStatistics | None:
        """Returns the figures, where there are any."""
        if self.lost or self.low is None or self.high is None or self.total is None or self.probe.axis is None:
            return None
        return ChannelStatistics(self.probe.axis, self.low, self.high, self.total / samples, float(samples))


def _empty() -> DataError:
    return DataError("the calibration split is empty", hint="name samples for it, 100 or more")
