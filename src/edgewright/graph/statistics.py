"""Calibration statistics: gathered once, streaming, in memory that does not grow with the number of samples.

Two passes over the data. The first reduces every activation to its smallest and largest value *inside the graph*, so
two numbers per tensor leave the runtime. The second, only where ranges are chosen from histograms, bins every
`stride`-th value over the range found by the first. Both serve every quantisation scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored
from edgewright.errors import Corrupt, DataError

Feed = Mapping[str, NDArray[Any]]
Infer = Callable[[Feed], Mapping[str, NDArray[Any]]]
"""Runs a model on one batch: input name -> array to output name -> array."""

STATISTICS_FILE = "statistics.json"
LOW, HIGH = "/low", "/high"
LEAST = np.finfo(np.float32).min
STRIDE = 7
"""Values taken into histograms: every 7th, a prime, so that it does not fall into step with rows or channels."""


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """What was seen in one tensor.

    Attributes:
        low: Smallest value; minus infinity, which hides padding from a softmax, counts as the smallest float32.
        high: Largest value.
        counts: Histogram over [low, high] in bins of equal width; empty when only ranges were gathered.
    """

    low: float
    high: float
    counts: tuple[int, ...] = ()

    def percentile(self, percent: float) -> tuple[float, float]:
        """Returns the range that leaves (100 - `percent`) / 2 percent of the values outside on each side.

        Raises:
            ValueError: There is no histogram, or `percent` is not within (50, 100].
        """
        if not 50 < percent <= 100:
            raise ValueError(f"percentile {percent}, expected above 50 and at most 100")
        if not self.counts:
            raise ValueError("no histogram was gathered for this tensor")
        cumulative = np.cumsum(self.counts, dtype=np.float64)
        tail = (100 - percent) / 200 * cumulative[-1]
        first = int(np.searchsorted(cumulative, tail, side="right"))
        last = int(np.searchsorted(cumulative, cumulative[-1] - tail, side="left"))
        width = (self.high - self.low) / len(self.counts)
        return self.low + min(first, len(self.counts) - 1) * width, self.low + (last + 1) * width


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of every floating-point activation of a model; saved as `statistics.json`.

    Attributes:
        samples: How many samples they rest on.
        tensors: Tensor name -> what was seen.
    """

    samples: int
    tensors: Mapping[str, TensorStatistics] = field(default_factory=dict)


def read_statistics(folder: Path) -> Statistics:
    """Reads what the pass `calibrate` wrote.

    Args:
        folder: Its output folder, or the file itself.

    Raises:
        Corrupt: The file is damaged.
    """
    path = folder / STATISTICS_FILE if folder.is_dir() else folder
    try:
        return decode_stored(Statistics, path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"{path}: {error}", hint="remove it and run again") from error


def activations(graph: ir.Graph) -> tuple[ir.Value, ...]:
    """Returns the float32 values that depend on the inputs, in graph order."""
    found = [v for v in graph.inputs if v.name not in graph.initializers]
    known = {id(v) for v in found}
    for node in graph:
        if any(id(v) in known for v in node.inputs):
            known.update(id(v) for v in node.outputs)
            found.extend(v for v in node.outputs if v.uses() or v.is_graph_output())
    return tuple(v for v in found if v.dtype == ir.DataType.FLOAT)


def with_ranges(model: ir.Model) -> ir.Model:
    """Returns a copy of `model` whose only outputs are the extremes of every activation, named by `LOW` and `HIGH`."""
    copy = model.clone()
    graph = copy.graph
    found = activations(graph)
    graph.outputs.clear()
    for value in found:
        for op, suffix in (("ReduceMin", LOW), ("ReduceMax", HIGH)):
            node = ir.node(op, [value], {"keepdims": 0})
            node.outputs[0].name = f"{value.name}{suffix}"
            node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(())
            graph.append(node)
            graph.outputs.append(node.outputs[0])
    return copy


def with_activations(model: ir.Model) -> ir.Model:
    """Returns a copy of `model` with every activation that some node computes as an output."""
    copy = model.clone()
    present = {v.name for v in (*copy.graph.outputs, *copy.graph.inputs)}
    copy.graph.outputs.extend(v for v in activations(copy.graph) if v.name not in present)
    return copy


def gather_ranges(infer: Infer, batches: Iterable[tuple[int, Feed]]) -> Statistics:
    """First pass: extremes over all batches.

    Args:
        infer: Runs the model of `with_ranges`.
        batches: (number of samples, feed) pairs.

    Raises:
        DataError: There are no samples, or an activation is not finite: not a number, or plus infinity. Minus
            infinity is what masks are made of.
    """
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    samples = 0
    for size, feed in batches:
        samples += size
        for name, value in infer(feed).items():
            if name.endswith(LOW):
                key = name[: -len(LOW)]
                low[key] = min(low.get(key, np.inf), _finite(key, np.where(value == -np.inf, LEAST, value)))
            else:
                key = name[: -len(HIGH)]
                high[key] = max(high.get(key, -np.inf), _finite(key, value))
    if not samples:
        raise DataError("the calibration split is empty", hint="name samples for it, 100 or more")
    return Statistics(samples, {k: TensorStatistics(low[k], high[k]) for k in low})


def gather_histograms(infer: Infer, batches: Iterable[tuple[int, Feed]], ranges: Statistics, bins: int) -> Statistics:
    """Second pass: histograms over the ranges found by the first.

    Args:
        infer: Runs the model of `with_activations`.
        batches: The same batches as in the first pass.
        ranges: Result of `gather_ranges`.
        bins: Number of bins per tensor.
    """
    counts = {name: np.zeros(bins, np.int64) for name in ranges.tensors}
    for _, feed in batches:
        for name, value in {**feed, **infer(feed)}.items():
            if name in counts:
                counts[name] += histogram(value, ranges.tensors[name], bins)
    found = {
        name: TensorStatistics(t.low, t.high, tuple(int(c) for c in counts[name])) for name, t in ranges.tensors.items()
    }
    return Statistics(ranges.samples, found)


def histogram(values: NDArray[Any], seen: TensorStatistics, bins: int) -> NDArray[np.int64]:
    """Counts every `STRIDE`-th value of a large tensor, every value of a small one."""
    flat = values.reshape(-1)
    if flat.size > 16 * STRIDE * bins:
        flat = flat[::STRIDE]
    width = (seen.high - seen.low) or 1.0
    index = ((np.clip(flat.astype(np.float64), seen.low, seen.high) - seen.low) * (bins / width)).astype(np.int64)
    return np.bincount(np.clip(index, 0, bins - 1), minlength=bins)


def _finite(name: str, value: NDArray[Any]) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise DataError(
            f'activation "{name}" is {number} on the calibration data, expected finite values',
            hint="check the samples and the preprocessing; a float model that overflows cannot be calibrated",
        )
    return number
