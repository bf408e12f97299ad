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
    """Batches of a split as (number of samples, input name -> array).

    An incomplete last batch is filled up with the first samples of the split, so that every sample is seen by a model
    whose batch axis is fixed, however few there are.

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
        first: Feed = {}
        for samples, _, feed in open_data(self.data, self.tensors).batches(self.split, self.size, self.limit):
            found = {name: feed[name] for name in names}
            first = first or found
            yield self.size, found if len(samples) == self.size else self._filled(found, first)

    def _filled(self, feed: Feed, first: Feed) -> Feed:
        """Repeats the first samples behind those of `feed`; where there is but one batch these are its own."""
        import numpy as np

        return {
            name: np.resize(np.concatenate([a, first[name]]), (self.size, *a.shape[1:])) for name, a in feed.items()
        }


def feeds_of(model: onnx_ir.Model, data: Path, split: str = "calibration", limit: int | None = None) -> Feeds:
    """Returns the samples of a split in the batch size that `model` is fixed to, 1 where it is free."""
    from edgewright.graph.load import tensor_specs
    from edgewright.graph.shapes import static_shape

    shape = static_shape(model.graph.inputs[0]) if model.graph.inputs else None
    return Feeds(data, split, limit, shape[0] if shape else 1, tensor_specs(model)[0])
