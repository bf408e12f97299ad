"""The samples that a pass looks at: batches of a split, prepared and checked, read anew at every iteration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.core.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx_ir

    from edgewright.graph.statistics import Feed


@dataclass(frozen=True, slots=True)
class Feeds:
    """Batches of a split as (number of samples, input name -> array); an incomplete last batch is left out.

    Attributes:
        data: The `data.json`.
        split: Which samples.
        limit: Most samples; None for all of them.
        size: Samples per batch.
        tensors: The model's inputs.
    """

    data: Path
    split: str
    limit: int | None
    size: int
    tensors: tuple[TensorSpec, ...]

    def __iter__(self) -> Iterator[tuple[int, Feed]]:
        from edgewright.data import open_data

        names = [tensor.name for tensor in self.tensors]
        for samples, _, feed in open_data(self.data, self.tensors).batches(self.split, self.size, self.limit):
            if len(samples) == self.size:
                yield len(samples), {name: feed[name] for name in names}


def feeds_of(model: onnx_ir.Model, data: Path, split: str = "calibration", limit: int | None = None) -> Feeds:
    """Returns the samples of a split in the batch size that `model` is fixed to, 1 where it is free."""
    from edgewright.graph.load import tensor_specs
    from edgewright.graph.shapes import static_shape

    shape = static_shape(model.graph.inputs[0]) if model.graph.inputs else None
    return Feeds(data, split, limit, shape[0] if shape else 1, tensor_specs(model)[0])
