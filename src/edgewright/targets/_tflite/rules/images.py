"""Sequences, images and volumes seen as images: TensorFlow Lite slides windows over [N, H, W, C] only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.targets._tflite.emission import Emission


def reshaped(e: Emission, data: int, shape: Sequence[int], name: str) -> int:
    """Returns `data` in another shape."""
    if e.tensor(data).shape == tuple(shape):
        return data
    made = e.temp(data, shape, name)
    reshape_into(e, data, made)
    return made


def reshape_into(e: Emission, data: int, made: int) -> None:
    """Emits the RESHAPE of `data` to the shape of `made`."""
    shape = list(e.tensor(made).shape)
    to = e.const(np.asarray(shape, np.int32), "shape")
    e.op("RESHAPE", [data, to], [made], "ReshapeOptions", newShape=shape)


def image(e: Emission, node: ir.Node) -> int:
    """Returns the data of a node; a sequence [N, L, C] as the image [N, 1, L, C]."""
    data = e.input(node, 0)
    shape = e.tensor(data).shape
    return reshaped(e, data, (shape[0], 1, *shape[1:]), f"{node.name}/image") if len(shape) == 3 else data


@contextlib.contextmanager
def image_out(e: Emission, node: ir.Node) -> Iterator[int]:
    """Gives the tensor to write an image to; afterwards it is the output, a sequence where that is one."""
    last = e.output(node)
    shape = e.tensor(last).shape
    if len(shape) != 3:
        yield last
        return
    made = e.temp(last, (shape[0], 1, *shape[1:]), f"{node.name}/image_out")
    yield made
    reshape_into(e, made, last)
