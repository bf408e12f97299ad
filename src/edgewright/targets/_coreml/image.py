"""An image in place of a tensor: Core ML takes a pixel buffer and normalises it inside the model.

Source: Core ML Tools guide, "Image input and output": the model gets pixels 0..255, channels in the order that it
wants, and computes scale x pixel + bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.codec import decode_stored
from edgewright.core.tensors import TensorSpec
from edgewright.data.spec import DataSpec
from edgewright.errors import ConfigError
from edgewright.graph.initializers import add_initializer
from edgewright.runtimes.coreml import picture
from edgewright.targets._litert_metadata import pixels

_INSIDE = frozenset({"normalise", "scale", "cast", "channel-order", "layout", "expand", "transpose"})
_BEFORE = frozenset({"decode", "resize", "letterbox", "crop"})
_CHANNELS = {"rgb": 3, "bgr": 3, "gray": 1}
_LAYOUTS = {"rgb": "RGB", "bgr": "BGR", "gray": "GRAYSCALE"}


@dataclass(frozen=True, slots=True)
class Image:
    """value = scale x pixel + bias, per channel, pixels 0..255.

    Attributes:
        colour: `rgb`, `bgr` or `gray`: the order of the model's channels.
        scale: One per channel, in the model's order.
        bias: One per channel.
    """

    colour: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def pixels(self, tensor: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns the picture [height, width] or [height, width, RGB] that a tensor [1, C, H, W] was made of."""
        return picture(tensor, self.colour, self.scale, self.bias)

    def planes(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the pixels as the package takes them in, a tensor [1, C, H, W] in the model's order of channels."""
        planes = picture[None] if self.colour == "gray" else np.moveaxis(picture, -1, 0)
        return np.ascontiguousarray(planes[::-1] if self.colour == "bgr" else planes, np.float32)[None]

    def insert(self, graph: ir.Graph, value: ir.Value) -> None:
        """Computes scale x pixel + bias behind the input `value`, in place.

        coremltools has fields for both, but fails on a factor per channel.
        """
        uses = list(value.uses())
        numbers = [np.asarray(n, np.float32).reshape(1, -1, 1, 1) for n in (self.scale, self.bias)]
        names = (f"{value.name}/pixel_scale", f"{value.name}/pixel_bias")
        scale, bias = (add_initializer(graph, name, n) for name, n in zip(names, numbers, strict=True))
        scaled = ir.node("Mul", [value, scale], name=f"{value.name}/scaled")
        moved = ir.node("Add", [scaled.outputs[0], bias], name=f"{value.name}/normalised")
        for node in (scaled, moved):
            node.outputs[0].name = node.name
            node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        graph.insert_before(next(iter(graph)), [scaled, moved])
        for use in uses:
            use.node.replace_input_with(use.idx, moved.outputs[0])

    def described(self, coremltools: Any, spec: TensorSpec) -> Any:
        """Returns coremltools' description of the input called `spec.name`."""
        layout = getattr(coremltools.colorlayout, _LAYOUTS[self.colour])
        return coremltools.ImageType(name=spec.name, shape=spec.shape, color_layout=layout)


def image_of(inputs: Sequence[TensorSpec], data: Path | None) -> dict[str, Image]:
    """Reads off the project's data how pixels become the model's input.

    Args:
        inputs: Of the model.
        data: A `data.json`, or None.

    Raises:
        ConfigError: The model's input is no image, or a step of the pre-processing cannot be done inside the model.
    """
    if data is None:
        raise ConfigError(
            "coreml: image = true needs the project's [[preprocess]] to know what pixels become",
            hint="give the project data and [[preprocess]], or leave image out",
        )
    spec = decode_stored(DataSpec, data.read_bytes())
    reasons = [*_not_inside(spec.preprocess), *_not_an_image(inputs)]
    found = None if reasons else pixels(spec.preprocess)
    if found is None:
        reasons = reasons or ["what it does to pixels is not one factor and one offset per channel"]
        raise ConfigError(
            f"coreml: image = true cannot put the pre-processing into the model: {'; '.join(reasons)}",
            hint="leave image out: the app then prepares the tensor, as [[preprocess]] says",
        )
    channels = _CHANNELS[found.colour]
    mean, std = (tuple(v * channels if len(v) == 1 else v) for v in (found.mean, found.std))
    if inputs[0].shape[1] != channels:
        raise ConfigError(
            f'coreml: input "{inputs[0]}" has {inputs[0].shape[1]} channels, pictures decoded as {found.colour} have '
            f"{channels}",
            hint="correct `color` of the decode step, or leave image out",
        )
    bias = tuple(-m / s for m, s in zip(mean, std, strict=True))
    return {inputs[0].name: Image(found.colour, tuple(1 / s for s in std), bias)}


def _not_inside(tables: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = [str(table.get("op")) for table in tables]
    yield from (f'step "{name}" is not arithmetic on pixels' for name in names if name not in _INSIDE | _BEFORE)
    if "decode" not in names:
        yield 'there is no step "decode" that makes pixels'
    yield from (f'step "{table.get("op")}" is for one input only' for table in tables if "on" in table)
    yield from ('step "scale" by the largest value differs from picture to picture' for t in tables if _by_value(t))


def _by_value(table: Mapping[str, Any]) -> bool:
    return table.get("op") == "scale" and isinstance(table.get("by"), str)


def _not_an_image(inputs: Sequence[TensorSpec]) -> Iterator[str]:
    if len(inputs) != 1:
        yield f"the model has {len(inputs)} inputs, expected one"
        return
    shape = inputs[0].shape
    if len(shape) != 4 or shape[1] not in (1, 3) or any(not isinstance(n, int) for n in shape[1:]):
        yield f'input "{inputs[0]}" is no image [batch, 1 or 3, height, width] of fixed size'
    elif shape[0] not in (1,) and isinstance(shape[0], int):
        yield f'input "{inputs[0]}" takes {shape[0]} pictures at once, Core ML takes one'
