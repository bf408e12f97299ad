"""The operation that turns encoded bytes into pixels or sound samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgewright.pipeline.audio import decode_audio
from edgewright.pipeline.image import decode_image
from edgewright.pipeline.item import Item, geometry_of


@dataclass(frozen=True, slots=True)
class Decode:
    """Decodes an image, or sound where `sample_rate` is given.

    Attributes:
        sample_rate: Samples per second of the sound wanted; 0 decodes an image.
        color: `rgb` gives uint8 [height, width, 3], `gray` [height, width, 1]; ignored for sound.
    """

    op: ClassVar[str] = "decode"
    files: ClassVar[tuple[str, ...]] = ()
    sample_rate: int = 0
    color: Literal["rgb", "gray"] = "rgb"

    def __call__(self, item: Item) -> Item:
        if self.sample_rate:
            return item.with_value(decode_audio(item.value, self.sample_rate))
        image = decode_image(item.value, self.color)
        return Item(image, geometry_of(Item(image, {}), image))
