"""What travels from one pre-processing operation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A value on its way to the model, and how an image got there.

    Attributes:
        value: Bytes, a path, an array, a string; whatever the next operation takes.
        geometry: Empty, or for an image `size` (height, width) of the original, `input` (height, width) now, and
            `scale` and `pad`, both (vertical, horizontal): now = original x scale + pad, in pixels.
    """

    value: Any
    geometry: Mapping[str, Any]

    def with_value(self, value: Any) -> Item:
        """Returns the item with another value in the same place."""
        return Item(value, self.geometry)


class PreOperation(Protocol):
    """One pre-processing operation: a frozen dataclass whose fields are its table's keys."""

    op: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    """Names of the fields that hold paths of files the operation reads."""

    def __call__(self, item: Item) -> Item:
        """Returns the next item.

        Raises:
            DataError: The value is not what the operation takes.
        """


def array_of(item: Item, op: str, *, hint: str = "") -> NDArray[Any]:
    """Returns the value as a numeric array.

    Raises:
        DataError: It is something else.
    """
    value = item.value
    if isinstance(value, (list, tuple, int, float, np.generic)):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
        found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
        raise DataError(
            f"{op} takes a numeric array, got {found}",
            hint=hint or 'put { op = "decode" } before it, or give arrays in the data',
        )
    return value


def image_of(item: Item, op: str) -> NDArray[Any]:
    """Returns the value as an image, [height, width] or [height, width, channels].

    Raises:
        DataError: It is something else.
    """
    image = array_of(item, op)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise DataError(
            f"{op} takes an image of shape [height, width] or [height, width, channels], got {list(image.shape)}",
            hint='give one image per sample, and put "layout" after the operations on images',
        )
    return image


def geometry_of(item: Item, image: NDArray[Any]) -> dict[str, Any]:
    """Returns the item's geometry, or that of an untouched image."""
    if item.geometry:
        return dict(item.geometry)
    size = (int(image.shape[0]), int(image.shape[1]))
    return {"size": size, "input": size, "scale": (1.0, 1.0), "pad": (0.0, 0.0)}


def moved(
    geometry: Mapping[str, Any],
    input_size: tuple[int, int],
    scale: tuple[float, float],
    pad: tuple[float, float],
) -> dict[str, Any]:
    """Returns `geometry` after one more step: new = old x scale + pad."""
    (old_y, old_x), (pad_y, pad_x) = geometry["scale"], geometry["pad"]
    return {
        "size": geometry["size"],
        "input": input_size,
        "scale": (old_y * scale[0], old_x * scale[1]),
        "pad": (pad_y * scale[0] + pad[0], pad_x * scale[1] + pad[1]),
    }
