"""What an app on a phone needs beside a .tflite file, inside it: class names, and how pixels become numbers.

Source: TFLite Metadata (tensorflow/tflite-support, metadata_schema.fbs, version 1): a FlatBuffer `M001` in the file's
metadata entry `TFLITE_METADATA`; associated files such as `labels.txt` in a ZIP archive appended to the file.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewright.core.codec import decode_stored
from edgewright.core.tensors import TensorSpec
from edgewright.data.spec import DataSpec
from edgewright.pipeline.item import Item
from edgewright.pipeline.preprocess import PREPROCESSING
from edgewright.pipeline.spec import operations

ENTRY = "TFLITE_METADATA"
LABELS_FILE = "labels.txt"
_IDENTIFIER = b"M001"
_PARSER = "1.0.0"
_GEOMETRY = frozenset({"decode", "resize", "letterbox", "crop"})
_POINTWISE = frozenset({"normalise", "scale", "cast", "channel-order", "layout", "expand", "transpose"})
_AXIS_LABELS = 2
_IMAGE, _NORMALISATION = 2, 1
_WHITE = 255.0
_COLOURS = {"rgb": 1, "gray": 2}


@dataclass(frozen=True, slots=True)
class Pixels:
    """How an app makes the model's input from an image: (pixel - mean) / std, pixels 0..255.

    Attributes:
        colour: `rgb`, `gray`, or `bgr`, which the format has no word for.
        mean: One per channel, in the model's order.
        std: One per channel.
    """

    colour: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What goes into the metadata.

    Attributes:
        inputs: The file's, in order.
        outputs: The file's, in order.
        labels: Class names in index order.
        pixels: Of the only image input; None where there is none, or it is prepared in a way the format cannot say.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    pixels: Pixels | None = None


def facts(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], data: Path | None) -> Facts:
    """Reads labels and normalisation off the project's data, where there are any.

    Args:
        inputs: Of the model.
        outputs: Of the model.
        data: A `data.json`, or None.
    """
    if data is None:
        return Facts(inputs, outputs)
    spec = decode_stored(DataSpec, data.read_bytes())
    return Facts(inputs, outputs, spec.labels, pixels(spec.preprocess) if len(inputs) == 1 else None)


def pixels(tables: Sequence[Mapping[str, Any]]) -> Pixels | None:
    """Returns what pre-processing does to the values of pixels, if it is the same affine map for all of them.

    Args:
        tables: The `[[preprocess]]` tables.
    """
    names = [str(table.get("op")) for table in tables]
    if (
        "decode" not in names
        or any(table.get("sample_rate") for table in tables)
        or set(names) - _GEOMETRY - _POINTWISE
        or any("on" in table for table in tables)
    ):
        return None
    if any(table.get("op") == "scale" and isinstance(table.get("by"), str) for table in tables):
        return None
    colour = str(next(table for table in tables if table["op"] == "decode").get("color", "rgb"))
    chain = operations(PREPROCESSING, [t for t in tables if t["op"] in _POINTWISE], "preprocess")
    offset, white = (_through(chain, value, 1 if colour == "gray" else 3) for value in (0.0, _WHITE))
    slope = (white - offset) / _WHITE
    if not np.all(np.isfinite(slope) & (slope != 0)):
        return None
    swapped = any(t["op"] == "channel-order" and t.get("order") == "bgr" for t in tables)
    mean, std = -offset / slope, 1 / slope
    return Pixels("bgr" if swapped else colour, tuple(map(float, mean)), tuple(map(float, std)))


def _through(chain: Sequence[Callable[[Item], Item]], value: float, channels: int) -> Any:
    item = Item(np.full((1, 1, channels), value, np.float32), {})
    for operation in chain:
        item = operation(item)
    return np.asarray(item.value, np.float64).reshape(-1)


def entries(given: Facts) -> dict[str, bytes]:
    """Returns the entries of the file's metadata; none where there is nothing to say but names."""
    return {ENTRY: flatbuffer(given)} if _labelled(given) or given.pixels is not None else {}


def flatbuffer(given: Facts) -> bytes:
    """Returns the content of the metadata entry."""
    import flatbuffers

    b = flatbuffers.Builder(1024)
    takes = [_tensor(b, spec, _input_parts(b, given.pixels)) for spec in given.inputs]
    gives = [_tensor(b, spec, _output_parts(b, spec, given.labels)) for spec in given.outputs]
    lists = {2: _vector(b, takes), 3: _vector(b, gives)}
    graph = _table(b, 9, lists)
    top = {3: _vector(b, [graph]), 7: b.CreateString(_PARSER)}
    b.Finish(_table(b, 8, top), file_identifier=_IDENTIFIER)
    return bytes(b.Output())


def packed(content: bytes, given: Facts) -> bytes:
    """Appends the associated files to a .tflite file; without labels there are none.

    Args:
        content: The file.
        given: What its metadata say.
    """
    if not _labelled(given):
        return content
    out = io.BytesIO()
    out.write(content)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(LABELS_FILE, (1980, 1, 1, 0, 0, 0))
        archive.writestr(entry, "\n".join(given.labels) + "\n")
    return out.getvalue()


def _labelled(given: Facts) -> bool:
    return any(_has_labels(spec, given.labels) for spec in given.outputs)


def _has_labels(spec: TensorSpec, labels: Sequence[str]) -> bool:
    return bool(labels) and bool(spec.shape) and spec.shape[-1] == len(labels)


def _tensor(b: Any, spec: TensorSpec, parts: dict[int, int]) -> int:
    return _table(b, 7, {0: b.CreateString(spec.name), **parts})


def _input_parts(b: Any, given: Pixels | None) -> dict[int, int]:
    if given is None:
        return {}
    colour = _COLOURS.get(given.colour, 0)
    b.StartObject(2)
    b.PrependInt8Slot(0, colour, 0)
    image = b.EndObject()
    content = _union(b, 3, _IMAGE, image)
    numbers = _table(b, 2, {0: _floats(b, given.mean), 1: _floats(b, given.std)})
    unit = _union(b, 2, _NORMALISATION, numbers)
    return {1: b.CreateString(_description(given)), 3: content, 4: _vector(b, [unit])}


def _description(given: Pixels) -> str:
    order = {"rgb": "red, green, blue", "bgr": "blue, green, red", "gray": "grey"}[given.colour]
    return f"Image, channels in the order {order}; every value is (pixel - mean) / std of a pixel 0..255."


def _output_parts(b: Any, spec: TensorSpec, labels: Sequence[str]) -> dict[int, int]:
    if not _has_labels(spec, labels):
        return {}
    name, said = b.CreateString(LABELS_FILE), b.CreateString("Class names in the order of the last axis.")
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependUOffsetTRelativeSlot(1, said, 0)
    b.PrependInt8Slot(2, _AXIS_LABELS, 0)
    return {6: _vector(b, [b.EndObject()])}


def _table(b: Any, fields: int, offsets: Mapping[int, int]) -> int:
    b.StartObject(fields)
    for slot, offset in offsets.items():
        b.PrependUOffsetTRelativeSlot(slot, offset, 0)
    return int(b.EndObject())


def _union(b: Any, fields: int, kind: int, value: int) -> int:
    """Writes a table whose first two slots are the type and the value of a union."""
    b.StartObject(fields)
    b.PrependUOffsetTRelativeSlot(1, value, 0)
    b.PrependUint8Slot(0, kind, 0)
    return int(b.EndObject())


def _vector(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _floats(b: Any, numbers: Sequence[float]) -> int:
    return int(b.CreateNumpyVector(np.asarray(numbers, np.float32)))
