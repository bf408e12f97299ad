"""Calibration: activation statistics of a model on the calibration split, gathered once for every scheme."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgewright.core.step import Context
from edgewright.errors import ConfigError, Corrupt, DataError

if TYPE_CHECKING:
    import onnx_ir
    from numpy.typing import NDArray

    from edgewright.data import Data
    from edgewright.graph.statistics import Batch, Gatherer, Statistics

CHECKPOINT, PARTIAL = "checkpoint", "checkpoint.partial"
CHECKPOINT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Calibrate:
    """inputs["model"] and inputs["data"] -> `statistics.json` and `statistics.npz`.

    One pass; a run that was killed goes on where its last checkpoint was, with the same result.

    Attributes:
        split: Which samples.
        limit: Use at most so many of them, the first ones.
        bins: Most bins of the histograms that ranges other than the extremes need; 0 gathers extremes only.
        channels: Gather extremes and means per channel, too.
        batch: Samples per batch where the graph leaves it free.
        shard: Take only every `shards`-th sample, from this one on; `graph.statistics.merge` joins the results.
        shards: How many shards there are.
    """

    name: ClassVar[str] = "calibrate"
    version: ClassVar[int] = 3
    gives_model: ClassVar[bool] = False
    requires: ClassVar[tuple[str, ...]] = ("onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("data",)

    split: str = "calibration"
    limit: int | None = None
    bins: int = 4096
    channels: bool = False
    batch: int = 1
    shard: int = 0
    shards: int = 1

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.data import open_data
        from edgewright.graph.load import load, tensor_specs
        from edgewright.graph.shapes import infer_shapes
        from edgewright.graph.statistics import write_statistics
        from edgewright.passes._infer import workers

        self._check()
        model = infer_shapes(load(inputs["model"]))
        data = open_data(inputs["data"], tensor_specs(model)[0])
        gatherer = self._gatherer(model, data, _read_checkpoint(context.scratch))
        done = gatherer.samples + len(gatherer.skipped)
        total = self._count(data)
        saved = time.monotonic()
        batches = _batches(self._samples(data, done), gatherer.probes.batch or self.batch)
        for count in gatherer.add_all(batches, workers()):
            done += count
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                _write_checkpoint(gatherer.partial(), context.scratch)
                saved = time.monotonic()
            context.progress(min(done / max(total, 1), 1.0), f"{done} of {total} samples")
        write_statistics(gatherer.finish(), out)

    def _check(self) -> None:
        if self.shards < 1:
            raise ConfigError(f"{self.shards} shards, expected 1 shard or more", hint="correct the field `shards`")
        if not 0 <= self.shard < self.shards:
            message = f"shard {self.shard} of {self.shards}, expected 0 to {self.shards - 1}"
            raise ConfigError(message, hint="correct the field `shard`; the first one is 0")
        if self.batch < 1:
            raise ConfigError(f"batch {self.batch}, expected 1 or more", hint="correct the field `batch`")
        if self.bins < 0 or self.bins == 1:
            raise ConfigError(f"bins {self.bins}, expected 0, or 2 or more", hint="correct the field `bins`, e.g. 4096")

    def _gatherer(self, model: onnx_ir.Model, data: Data, start: Statistics | None) -> Gatherer:
        """The sub-sampling follows from the split's first sample, whichever shard is worked on."""
        from edgewright.graph.statistics import Gatherer, probe
        from edgewright.passes._infer import open_infer

        first = next(iter(data.dataset(self.split)), None)
        if first is None:
            raise DataError("the calibration split is empty", hint="name samples for it, 100 or more")
        shapes = {name: (1, *array.shape) for name, array in data.prepare(first).tensors.items()}
        probes = probe(model, histograms=self.bins > 0, channels=self.channels, shapes=shapes)
        if start is not None and start.tensors.keys() != {p.name for p in probes.tensors}:
            start = None
        return Gatherer(probes, open_infer(probes.model, threads=1, in_order=True), self.bins, start)

    def _count(self, data: Data) -> int:
        length = len(data.dataset(self.split))
        used = length if self.limit is None else min(length, self.limit)
        return len(range(self.shard, used, self.shards))

    def _samples(self, data: Data, done: int) -> Iterator[tuple[int, Mapping[str, NDArray[Any]]]]:
        """Yields index and tensors of this shard's samples, the first `done` of them left out."""
        used = itertools.islice(enumerate(data.dataset(self.split)), self.limit)
        for index, sample in itertools.islice(used, self.shard + done * self.shards, None, self.shards):
            yield index, data.prepare(sample).tensors


def _batches(samples: Iterable[tuple[int, Mapping[str, NDArray[Any]]]], size: int) -> Iterator[Batch]:
    """Stacks up to `size` samples; a batch ends early before a sample of another shape, and the last one is kept."""
    indices: list[int] = []
    held: list[Mapping[str, NDArray[Any]]] = []
    for index, tensors in samples:
        if held and (len(held) == size or _shapes(held[0]) != _shapes(tensors)):
            yield indices, _stacked(held)
            indices, held = [], []
        indices.append(index)
        held.append(tensors)
    if held:
        yield indices, _stacked(held)


def _shapes(tensors: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in tensors.items()}


def _stacked(held: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    import numpy as np

    return {name: np.stack([tensors[name] for tensors in held]) for name in held[0]}


def _write_checkpoint(statistics: Statistics, scratch: Path) -> None:
    """Writes beside the last checkpoint and then takes its place, so that one of the two is always whole."""
    import shutil

    from edgewright.graph.statistics import write_statistics

    last, made = scratch / CHECKPOINT, scratch / PARTIAL
    shutil.rmtree(made, ignore_errors=True)
    write_statistics(statistics, made)
    shutil.rmtree(last, ignore_errors=True)
    made.rename(last)


def _read_checkpoint(scratch: Path) -> Statistics | None:
    from edgewright.graph.statistics import STATISTICS_FILE, read_statistics

    for name in (CHECKPOINT, PARTIAL):
        try:
            return read_statistics(scratch / name / STATISTICS_FILE)
        except Corrupt:  # not there, or killed while it was written
            continue
    return None


plugin = Calibrate
