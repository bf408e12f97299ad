"""One side of a comparison: a model opened in its own runtime, with its inner tensors within reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.core.tensors import TensorSpec

Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Integers:
    """How real values are stored: real = scale x (integer - zero point).

    Attributes:
        dtype: NumPy's name.
        scale: One value, or one per channel.
        zero_point: As many as scales.
        axis: Channel axis; None for per-tensor.
    """

    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    @property
    def low(self) -> float:
        """Smallest real value that they express."""
        least = int(np.iinfo(self.dtype).min)
        return min(s * (least - z) for s, z in zip(self.scale, self.zero_point, strict=True))

    @property
    def high(self) -> float:
        """Largest real value that they express."""
        most = int(np.iinfo(self.dtype).max)
        return max(s * (most - z) for s, z in zip(self.scale, self.zero_point, strict=True))

    def real(self, integers: NDArray[Any]) -> NDArray[Any]:
        """Returns the real values (float32) that `integers` stand for."""
        from edgewright.graph.affine import dequantise

        return dequantise(integers, self.scale, self.zero_point, self.axis)

    def stored(self, real: NDArray[Any]) -> NDArray[Any]:
        """Returns the integers that stand for `real`, rounded to even and saturated."""
        from edgewright.graph.affine import Grid, quantise

        info = np.iinfo(self.dtype)
        return quantise(real, self.scale, self.zero_point, Grid(self.dtype, int(info.min), int(info.max)), self.axis)


@dataclass(frozen=True, slots=True)
class Tap:
    """One inner tensor that can be read while the model runs.

    Attributes:
        tensor: Its name in its own model.
        node: Node that computes it.
        op: That node's operator.
        source: Name that the runtime gives its values by.
        names: What it may be called in another form of the same model, the likeliest first.
        integers: How it is stored; None for float.
        precision: What the node really computes in, where the runtime says.
    """

    tensor: str
    node: str
    op: str
    source: str
    names: tuple[str, ...] = ()
    integers: Integers | None = None
    precision: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What a node multiplies its input by.

    Attributes:
        tensor: Name in the model.
        real: Values, float32.
        integers: How they are stored; None for float.
    """

    tensor: str
    real: NDArray[Any]
    integers: Integers | None = None


class LocalRunner(Protocol):
    """All layers of a model, each fed with given values instead of those of the layer before it."""

    def run(self, feed: Feed, given: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Returns what each layer makes of what it is given: real values by `Tap.source`.

        Args:
            feed: The model's inputs.
            given: `Tap.source` -> real values, in the model's own layout.
        """


class Side(Protocol):
    """An opened model.

    Attributes:
        title: Path and runtime, for a reader.
        runtime: Name and version.
        inputs: What it takes.
        stored_inputs: Name -> how an input is stored, for inputs of scaled integers.
        taps: Its inner tensors, in the order they are computed.
        outputs: Its outputs, in order.
        hidden: Tensor -> why it cannot be read although the model has it.
        notes: What a reader should know about how the values were taken.
    """

    title: str
    runtime: str
    inputs: tuple[TensorSpec, ...]
    stored_inputs: Mapping[str, Integers]
    taps: tuple[Tap, ...]
    outputs: tuple[Tap, ...]
    hidden: Mapping[str, str]
    notes: tuple[str, ...]

    def run(self, feed: Feed) -> Mapping[str, NDArray[Any]]:
        """Returns real values of all taps and outputs, by `Tap.source`.

        Args:
            feed: Input name -> array of the declared type.
        """

    def weights(self, tap: Tap) -> Weights | None:
        """Returns the weights of the layer that ends in `tap`; None where it has none."""

    def local(self, given: Sequence[Tap]) -> AbstractContextManager[LocalRunner | None]:
        """Opens every layer on its own; gives None where this runtime cannot.

        Args:
            given: Tensors whose values will be given; layers end and begin there.
        """
