"""Operations on images: decode, resize, letterbox, crop, channel order, layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError, ToolchainMissing
from edgewright.pipeline.item import Item, geometry_of, image_of, moved

Interpolation = Literal["bilinear", "nearest", "area", "cubic"]


def opencv() -> ModuleType:
    """Returns the cv2 module.

    Raises:
        ToolchainMissing: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        message = "reading and resizing images needs OpenCV, which is not installed"
        raise ToolchainMissing(message, hint='pip install "edgewright[image]"') from error
    return cv2


def decode_image(value: Any, color: str) -> NDArray[np.uint8]:
    """Returns an image as uint8 RGB [height, width, 3], or [height, width, 1] for `gray`.

    Args:
        value: Encoded bytes, a path, or an array that is an image already (RGB, or grey with 0, 1 or 3 channels).
        color: `rgb` or `gray`.

    Raises:
        DataError: The bytes hold no whole image, or the array is no image.
    """
    if isinstance(value, np.ndarray) and value.ndim != 1:
        return _from_array(value, color)
    data = _encoded(value)
    if _is_cut_off(data):
        raise DataError(f"the image is cut off after {len(data)} bytes", hint="fetch or copy the file again")
    cv2 = opencv()
    flag = cv2.IMREAD_GRAYSCALE if color == "gray" else cv2.IMREAD_COLOR
    buffer = np.frombuffer(data, np.uint8)
    image = cv2.imdecode(buffer, flag) if buffer.size else None
    if image is None:
        start = bytes(data[:8])
        raise DataError(
            f"cannot decode an image from {len(data)} bytes that start with {start!r}",
            hint="give JPEG, PNG, BMP, WebP or TIFF files, or remove this one from the data",
        )
    return image[:, :, None] if color == "gray" else np.ascontiguousarray(image[:, :, ::-1])


def _encoded(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return value.tobytes()
    if isinstance(value, (str, Path)):
        return read_file(Path(value))
    raise DataError(
        f"decode takes encoded bytes, a path or an image array, got {type(value).__name__}",
        hint="remove decode from the list if the data is not made of images or sound",
    )


def read_file(path: Path) -> bytes:
    """Returns the content of a data file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the path in the data") from error


def _is_cut_off(data: bytes) -> bool:
    """Tells a truncated JPEG or PNG, which the decoder would quietly fill with grey."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[8:]
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:  # entropy-coded data follow; 0xFFD9 cannot occur inside them
            return data.find(b"\xff\xd9", at) < 0
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 4 > len(data)


def _from_array(value: NDArray[Any], color: str) -> NDArray[np.uint8]:
    image = value[:, :, None] if value.ndim == 2 else value
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        raise DataError(
            f"decode takes images as uint8 [height, width, 1 or 3], got {value.dtype} {list(value.shape)}",
            hint="remove decode from the list if the arrays are ready for the model",
        )
    channels = 1 if color == "gray" else 3
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    gray: NDArray[np.uint8] = opencv().cvtColor(image, opencv().COLOR_RGB2GRAY)
    return gray[:, :, None]


def scale_image(image: NDArray[Any], height: int, width: int, interpolation: str) -> NDArray[Any]:
    """Returns `image` at another size, its number of axes kept; pixel centres are at half-integers."""
    if image.shape[:2] == (height, width):
        return image
    cv2 = opencv()
    flags = {
        "bilinear": cv2.INTER_LINEAR,
        "nearest": cv2.INTER_NEAREST,
        "area": cv2.INTER_AREA,
        "cubic": cv2.INTER_CUBIC,
    }
    if image.dtype not in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        message = f"cannot resize an image of {image.dtype}"
        raise DataError(message, hint='put { op = "cast", dtype = "float32" } before it')
    resized: NDArray[Any] = cv2.resize(image, (width, height), interpolation=flags[interpolation])
    return resized.reshape(height, width, *image.shape[2:])


@dataclass(frozen=True, slots=True)
class Resize:
    """Scales an image to `size`, changing its aspect ratio if needed.

    Attributes:
        size: Height and width in pixels.
        interpolation: Bilinear unless said otherwise.
        keep: `short` scales the shorter side to min(size) and keeps the aspect ratio (then `crop`).
    """

    op: ClassVar[str] = "resize"
    files: ClassVar[tuple[str, ...]] = ()
    size: tuple[int, int]
    interpolation: Interpolation = "bilinear"
    keep: Literal["", "short"] = ""

    def __post_init__(self) -> None:
        _positive(self.size)

    def __call__(self, item: Item) -> Item:
        image = image_of(item, self.op)
        rows, columns = image.shape[:2]
        height, width = self.size
        if self.keep == "short":
            side = min(self.size)
            height, width = (side, columns * side // rows) if rows <= columns else (rows * side // columns, side)
        geometry = moved(geometry_of(item, image), (height, width), (height / rows, width / columns), (0.0, 0.0))
        return Item(scale_image(image, height, width, self.interpolation), geometry)


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Scales an image to fit into `size` with its aspect ratio kept, and fills the rest.

    Attributes:
        size: Height and width in pixels.
        pad: Value of the filling.
        anchor: Where the image lies; YOLOX uses `top-left`, YOLOv5 and YOLOv8 `centre`.
        interpolation: Bilinear unless said otherwise.
        upscale: Enlarge images that are smaller than `size`.
    """

    op: ClassVar[str] = "letterbox"
    files: ClassVar[tuple[str, ...]] = ()
    size: tuple[int, int]
    pad: float = 114
    anchor: Literal["top-left", "centre"] = "top-left"
    interpolation: Interpolation = "bilinear"
    upscale: bool = True

    def __post_init__(self) -> None:
        _positive(self.size)

    def __call__(self, item: Item) -> Item:
        image = image_of(item, self.op)
        rows, columns = image.shape[:2]
        height, width = self._fit(rows, columns)
        top, left = 0, 0
        if self.anchor == "centre":
            top, left = (self.size[0] - height) // 2, (self.size[1] - width) // 2
        boxed = np.full((*self.size, *image.shape[2:]), self.pad, image.dtype)
        boxed[top : top + height, left : left + width] = scale_image(image, height, width, self.interpolation)
        scale = (height / rows, width / columns)
        return Item(boxed, moved(geometry_of(item, image), self.size, scale, (float(top), float(left))))

    def _fit(self, rows: int, columns: int) -> tuple[int, int]:
        height, width = self.size
        if not self.upscale and rows <= height and columns <= width:
            return rows, columns
        if rows * width >= columns * height:
            return height, max(1, columns * height // rows)
        return max(1, rows * width // columns), width


@dataclass(frozen=True, slots=True)
class Crop:
    """Cuts `size` out of an image; parts outside are filled with `pad`.

    Attributes:
        size: Height and width in pixels.
        anchor: `centre` or `top-left`.
        pad: Value where the image is smaller than `size`.
    """

    op: ClassVar[str] = "crop"
    files: ClassVar[tuple[str, ...]] = ()
    size: tuple[int, int]
    anchor: Literal["centre", "top-left"] = "centre"
    pad: float = 0

    def __post_init__(self) -> None:
        _positive(self.size)

    def __call__(self, item: Item) -> Item:
        image = image_of(item, self.op)
        height, width = self.size
        top, left = 0, 0
        if self.anchor == "centre":
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        cut = np.full((height, width, *image.shape[2:]), self.pad, image.dtype)
        part = image[max(top, 0) : top + height, max(left, 0) : left + width]
        down, right = max(-top, 0), max(-left, 0)
        cut[down : down + part.shape[0], right : right + part.shape[1]] = part
        return Item(cut, moved(geometry_of(item, image), self.size, (1.0, 1.0), (float(-top), float(-left))))


@dataclass(frozen=True, slots=True)
class ChannelOrder:
    """Says in which order the model wants the colours; images come in as RGB."""

    op: ClassVar[str] = "channel-order"
    files: ClassVar[tuple[str, ...]] = ()
    order: Literal["bgr", "rgb"]

    def __call__(self, item: Item) -> Item:
        image = image_of(item, self.op)
        if image.ndim != 3 or image.shape[2] != 3:
            raise DataError(
                f"channel-order takes an image [height, width, 3], got {list(image.shape)}",
                hint="put channel-order before layout, and remove it for grey images",
            )
        return item.with_value(image[:, :, ::-1] if self.order == "bgr" else image)


@dataclass(frozen=True, slots=True)
class Layout:
    """Moves the channels of an image: `chw` (ONNX, PyTorch) or `hwc` (TensorFlow). A grey image gets its channel."""

    op: ClassVar[str] = "layout"
    files: ClassVar[tuple[str, ...]] = ()
    order: Literal["chw", "hwc"]

    def __call__(self, item: Item) -> Item:
        image = image_of(item, self.op)
        if image.ndim == 2:
            image = image[:, :, None]
        return item.with_value(image.transpose(2, 0, 1) if self.order == "chw" else image)


def _positive(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise ValueError(f"size is height and width in pixels, both at least 1, got {list(size)}")
