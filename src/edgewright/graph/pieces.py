"""Runs a model in pieces, every node once over all samples, keeping only the tensors that later pieces read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import ConfigError, DataError
from edgewright.graph.statistics import Feed, Infer

MEMORY_BYTES = 256 * 2**20
"""Tensors at the cut beyond this size lie in files."""


class Pieces:
    """A run of a model that stops where one asks it to, so that constants behind the cut may change on the way.

    Args:
        model: With types inferred. Its constants are read when the piece that uses them runs.
        open_infer: Opens a piece.
        batches: (number of samples, feed) pairs.
        folder: For tensors that memory has no room for.

    Raises:
        ConfigError: The model has branches or loops.
        DataError: There are no samples.
    """

    def __init__(
        self,
        model: ir.Model,
        open_infer: Callable[[ir.Model], Infer],
        batches: Iterable[tuple[int, Feed]],
        folder: Path,
    ) -> None:
        if any(node.graph is not model.graph for node in model.graph.all_nodes()):
            raise ConfigError("models with branches or loops cannot be run in pieces", hint='use method = "fast"')
        self._model = model
        self._open = open_infer
        self._folder = folder
        self._order = {node: i for i, node in enumerate(model.graph)}
        self._nodes = list(model.graph)
        self._done = 0
        self._bytes = 0
        self._live: dict[str, ir.Value] = {v.name or "": v for v in model.graph.inputs}
        self._sizes: list[int] = []
        self._kept: list[dict[str, NDArray[Any]]] = []
        for size, feed in batches:
            self._sizes.append(size)
            self._kept.append({name: self._put(array) for name, array in feed.items()})
        if not self._kept:
            raise DataError("the calibration split is empty", hint="name samples for it, 100 or more")

    def advance(self, node: ir.Node) -> None:
        """Runs everything up to `node`, itself included; `node` must not have run yet."""
        end = self._order[node] + 1
        piece = self._nodes[self._done : end]
        made: set[ir.Value] = {v for each in piece for v in each.outputs}
        read = {v for each in piece for v in each.inputs if v is not None}
        wanted = [v for v in made if v is node.outputs[0] or self._used_after(v, end)]
        inputs = [v for v in self._live.values() if v in read]
        wanted.sort(key=lambda v: v.name or "")
        graph = ir.convenience.extract(self._model.graph, inputs, wanted)
        part = ir.Model(graph, ir_version=self._model.ir_version)
        part.metadata_props.update(self._model.metadata_props)
        infer = self._open(part)
        self._done = end
        self._live = {name: v for name, v in self._live.items() if self._used_after(v, end)}
        self._live.update({v.name or "": v for v in wanted})
        for index, kept in enumerate(self._kept):
            found = infer({v.name or "": kept[v.name or ""] for v in inputs})
            both = {**kept, **found}
            for name in set(kept) - set(self._live):
                self._drop(kept[name])
            self._kept[index] = {n: kept[n] if n in kept else self._put(both[n]) for n in self._live}

    def reach(self, *values: ir.Value) -> bool:
        """Runs until all of `values` are computed; False where one of them has been dropped already."""
        makers = [node for value in values if (node := value.producer()) is not None]
        last = max((self._order[node] for node in makers), default=-1)
        if last >= self._done:
            self.advance(self._nodes[last])
        return all(value.name in self._live for value in values)

    def values(self, value: ir.Value) -> list[NDArray[Any]]:
        """Returns a tensor at the cut, one array per batch."""
        return [kept[value.name or ""] for kept in self._kept]

    def mean(self, value: ir.Value, axis: int) -> NDArray[np.float64]:
        """Returns the mean of every channel of a tensor at the cut, over samples and positions."""
        total: NDArray[np.float64] | float = 0.0
        for size, kept in zip(self._sizes, self._kept, strict=True):
            array = kept[value.name or ""]
            others = tuple(i for i in range(array.ndim) if i != axis % array.ndim)
            total = total + array.mean(axis=others, dtype=np.float64) * size
        return np.asarray(total / sum(self._sizes), np.float64)

    def shift(self, value: ir.Value, axis: int, by: NDArray[Any]) -> None:
        """Adds `by`, one number per channel, to a tensor at the cut."""
        for kept in self._kept:
            array = kept[value.name or ""]
            shape = [1] * array.ndim
            shape[axis] = -1
            self._drop(array)
            kept[value.name or ""] = self._put(array + by.astype(array.dtype).reshape(shape))

    def _used_after(self, value: ir.Value, end: int) -> bool:
        return any(self._order.get(use.node, end) >= end for use in value.uses())

    def _put(self, array: NDArray[Any]) -> NDArray[Any]:
        if self._bytes + array.nbytes <= MEMORY_BYTES or not array.size:
            self._bytes += array.nbytes
            return array
        with tempfile.TemporaryFile(dir=self._folder) as file:
            mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
        mapped[...] = array
        return mapped

    def _drop(self, array: NDArray[Any]) -> None:
        if not isinstance(array, np.memmap):
            self._bytes -= array.nbytes
