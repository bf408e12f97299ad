"""Calibration: activation statistics of a model on the calibration split, gathered once for every scheme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgewright.core.codec import encode_json
from edgewright.core.step import Context
from edgewright.core.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.statistics import Feed


@dataclass(frozen=True, slots=True)
class Calibrate:
    """inputs["model"] and inputs["data"] -> `statistics.json`.

    Attributes:
        split: Which samples.
        limit: Use at most so many of them.
        bins: Bins of the histograms that percentile ranges need; 0 gathers extremes only, in one pass instead of two.
    """

    name: ClassVar[str] = "calibrate"
    version: ClassVar[int] = 2
    requires: ClassVar[tuple[str, ...]] = ("onnx-ir", "onnxruntime")
    needs: ClassVar[tuple[str, ...]] = ("data",)

    split: str = "calibration"
    limit: int | None = None
    bins: int = 2048

    def run(self, inputs: Mapping[str, Path], out: Path, context: Context) -> None:
        from edgewright.graph import statistics
        from edgewright.graph.load import load, tensor_specs
        from edgewright.graph.shapes import infer_shapes
        from edgewright.passes._infer import open_infer

        model = infer_shapes(load(inputs["model"]))
        feeds = _Feeds(inputs["data"], self.split, self.limit, _batch_size(model), tensor_specs(model)[0])
        found = statistics.gather_ranges(open_infer(statistics.with_ranges(model)), feeds)
        context.progress(0.5, "histograms" if self.bins else "")
        if self.bins:
            histograms = open_infer(statistics.with_activations(model))
            found = statistics.gather_histograms(histograms, feeds, found, self.bins)
        (out / statistics.STATISTICS_FILE).write_bytes(encode_json(found))


@dataclass(frozen=True, slots=True)
class _Feeds:
    """The calibration batches, read again at every iteration."""

    data: Path
    split: str
    limit: int | None
    size: int
    tensors: tuple[TensorSpec, ...]

    def __iter__(self) -> Iterator[tuple[int, Feed]]:
        from edgewright.data import open_data

        for samples, _, feed in open_data(self.data, self.tensors).batches(self.split, self.size, self.limit):
            if len(samples) == self.size:
                yield len(samples), feed


def _batch_size(model: onnx_ir.Model) -> int:
    """Returns the batch size the graph is fixed to; 1 where it is free."""
    from edgewright.graph.shapes import static_shape

    shape = static_shape(model.graph.inputs[0]) if model.graph.inputs else None
    return shape[0] if shape else 1


plugin = Calibrate
