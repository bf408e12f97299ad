"""Operations on arrays of any kind: normalise, scale, cast, reshape, expand, transpose, window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError
from edgewright.pipeline.item import Item, array_of

DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "bool")


@dataclass(frozen=True, slots=True)
class Normalise:
    """(x * scale - mean) / std, as float32.

    Attributes:
        mean: One number, or one per channel.
        std: One number, or one per channel.
        scale: 1/255 where mean and std are given for pixels in 0..1.
        axis: Axis of the channels; the last one for images before `layout`.
    """

    op: ClassVar[str] = "normalise"
    files: ClassVar[tuple[str, ...]] = ()
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    scale: float = 1.0
    axis: int = -1

    def __post_init__(self) -> None:
        if not np.all(np.asarray(self.std)):
            raise ValueError("std is a divisor and cannot be 0")

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        mean, std = self._per_channel(self.mean, array), self._per_channel(self.std, array)
        return item.with_value((array.astype(np.float32) * np.float32(self.scale) - mean) / std)

    def _per_channel(self, value: float | tuple[float, ...], array: NDArray[Any]) -> Any:
        if isinstance(value, (int, float)):
            return np.float32(value)
        if not -array.ndim <= self.axis < array.ndim or array.shape[self.axis] != len(value):
            raise DataError(
                f"normalise has {len(value)} values per channel for an array {list(array.shape)}, axis {self.axis}",
                hint="put normalise before layout, set axis, or give as many values as there are channels",
            )
        shape = [1] * array.ndim
        shape[self.axis] = len(value)
        return np.asarray(value, np.float32).reshape(shape)


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiplies, or divides by the sample's own largest value; the result is float32.

    Attributes:
        by: A factor; `max` divides by the largest value, `abs-max` by the largest magnitude. A sample whose divisor
            would be 0 (silence) stays as it is.
    """

    op: ClassVar[str] = "scale"
    files: ClassVar[tuple[str, ...]] = ()
    by: float | str

    def __post_init__(self) -> None:
        if isinstance(self.by, str) and self.by not in ("max", "abs-max"):
            raise ValueError(f'by is a number, "max" or "abs-max", got "{self.by}"')

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op).astype(np.float32)
        if not isinstance(self.by, str):
            return item.with_value(array * np.float32(self.by))
        largest = (array if self.by == "max" else np.abs(array)).max(initial=-np.inf)
        return item.with_value(array / largest if np.isfinite(largest) and largest != 0 else array)


@dataclass(frozen=True, slots=True)
class Cast:
    """Changes the type of the numbers; fractions are cut, so round or scale before casting to integers."""

    op: ClassVar[str] = "cast"
    files: ClassVar[tuple[str, ...]] = ()
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f'dtype is one of {", ".join(DTYPES)}, got "{self.dtype}"')

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        kind = np.dtype(self.dtype)
        if kind.kind in "iu" and array.size and array.dtype != kind:
            limits = np.iinfo(kind)
            low, high = array.min(), array.max()
            if not (limits.min <= low and high <= limits.max):
                raise DataError(
                    f"cast to {self.dtype} ({limits.min}..{limits.max}) of values {low:g}..{high:g}",
                    hint="scale the values into the range first, or cast to a wider type",
                )
        return item.with_value(array.astype(kind, copy=False))


@dataclass(frozen=True, slots=True)
class Reshape:
    """Gives the array another shape (without the batch axis); one entry may be -1."""

    op: ClassVar[str] = "reshape"
    files: ClassVar[tuple[str, ...]] = ()
    shape: tuple[int, ...]

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        try:
            return item.with_value(array.reshape(self.shape))
        except ValueError as error:
            raise DataError(
                f"cannot reshape {list(array.shape)} to {list(self.shape)}",
                hint="the number of values must stay the same; the batch axis is not part of the shape",
            ) from error


@dataclass(frozen=True, slots=True)
class Expand:
    """Inserts an axis of length 1 (not the batch axis, which is added later)."""

    op: ClassVar[str] = "expand"
    files: ClassVar[tuple[str, ...]] = ()
    axis: int = -1

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        if not -array.ndim - 1 <= self.axis <= array.ndim:
            message = f"cannot insert axis {self.axis} into an array {list(array.shape)}"
            raise DataError(message, hint=f"axis lies in {-array.ndim - 1}..{array.ndim}")
        return item.with_value(np.expand_dims(array, self.axis))


@dataclass(frozen=True, slots=True)
class Transpose:
    """Reorders the axes."""

    op: ClassVar[str] = "transpose"
    files: ClassVar[tuple[str, ...]] = ()
    axes: tuple[int, ...]

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        if sorted(self.axes) != list(range(array.ndim)):
            message = f"cannot transpose {list(array.shape)} by {list(self.axes)}"
            raise DataError(message, hint=f"name each of the axes 0..{array.ndim - 1} once")
        return item.with_value(array.transpose(self.axes))


@dataclass(frozen=True, slots=True)
class Window:
    """Cuts or fills the first axis to a fixed length: sound, series.

    Attributes:
        length: Entries to give to the model.
        anchor: Which part of a longer value is kept, and where a shorter one lies: `start`, `centre` or `end`.
        pad: Value of the filling.
    """

    op: ClassVar[str] = "window"
    files: ClassVar[tuple[str, ...]] = ()
    length: int
    anchor: str = "start"
    pad: float = 0.0

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length is at least 1, got {self.length}")
        if self.anchor not in ("start", "centre", "end"):
            raise ValueError(f'anchor is "start", "centre" or "end", got "{self.anchor}"')

    def __call__(self, item: Item) -> Item:
        array = array_of(item, self.op)
        if array.ndim == 0:
            raise DataError("window takes an array with at least one axis, got a number", hint="remove window")
        surplus = len(array) - self.length
        start = {"start": 0, "centre": surplus // 2, "end": surplus}[self.anchor]
        if surplus >= 0:
            return item.with_value(array[start : start + self.length])
        filled = np.full((self.length, *array.shape[1:]), self.pad, array.dtype)
        filled[-start : len(array) - start] = array
        return item.with_value(filled)
