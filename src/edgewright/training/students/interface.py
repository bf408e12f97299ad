"""What a student is to take and give: read from its teacher's graph. No PyTorch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgewright.core.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

ENDINGS = ("Softmax", "LogSoftmax", "Sigmoid")
STRIDES = (8, 16, 32)
"""Of the three maps that a detector predicts from."""
_MOST_CHANNELS = 4
_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Interface:
    """The seam between a teacher and its students.

    Attributes:
        inputs: The teacher's.
        outputs: The teacher's.
        ending: `Softmax`, `LogSoftmax` or `Sigmoid` where the teacher's outputs went through one; empty for logits.
        vocabulary: Number of tokens in the teacher's table; 0 where it takes none.
        padding: Token that the teacher looks away from; None where that is not told by its graph.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ending: str = ""
    vocabulary: int = 0
    padding: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image or a map of features, without the batch axis; `last` where the channels come last."""

    channels: int
    height: int
    width: int
    last: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Features over time; `axes` permutes and `shape` reshapes what comes in to [batch, features, time, 1].

    Attributes:
        features: Per time step; 1 for a waveform.
        time: Steps.
        transposed: The features come before the time.
        rank: Axes of the input, the batch counted.
    """

    features: int
    time: int
    transposed: bool
    rank: int


@dataclass(frozen=True, slots=True)
class Frames:
    """One vector of `classes` per time step; `first` where the time comes before the batch."""

    time: int
    classes: int
    first: bool = False


@dataclass(frozen=True, slots=True)
class Map:
    """One vector of `classes` per pixel; `last` where the classes come last."""

    classes: int
    height: int
    width: int
    last: bool = False


def picture(interface: Interface) -> Picture | None:
    """Returns the image that the model takes; None where it takes something else or of no fixed size."""
    if len(interface.inputs) != 1 or not interface.inputs[0].dtype.startswith("float"):
        return None
    sizes = _fixed(interface.inputs[0])
    if sizes is None or len(sizes) not in (2, 3):
        return None
    if len(sizes) == 2:
        return Picture(1, sizes[0], sizes[1])
    if sizes[2] <= _MOST_CHANNELS < sizes[0] or (sizes[2] in (1, 3) and sizes[0] not in (1, 3)):
        return Picture(sizes[2], sizes[0], sizes[1], last=True)
    return Picture(sizes[0], sizes[1], sizes[2])


def series(interface: Interface) -> Series | None:
    """Returns the features over time that the model takes; time is the longer of two axes."""
    if len(interface.inputs) != 1 or not interface.inputs[0].dtype.startswith("float"):
        return None
    sizes = _fixed(interface.inputs[0])
    if sizes is None:
        return None
    rank = len(sizes) + 1
    kept = [size for size in sizes if size != 1]
    if len(kept) == 1:
        return Series(1, kept[0], False, rank)
    if len(kept) != 2:
        return None
    return Series(kept[1], kept[0], False, rank) if kept[0] >= kept[1] else Series(kept[0], kept[1], True, rank)


def tokens(interface: Interface) -> int | None:
    """Returns how many tokens the model takes at most; None where it takes none, or something beside them."""
    if not interface.vocabulary or any(np.dtype(s.dtype).kind not in "iu" for s in interface.inputs):
        return None
    if any(len(spec.shape) != 2 for spec in interface.inputs):
        return None
    length = interface.inputs[0].shape[1]
    return length if isinstance(length, int) else _LENGTH


def classes(interface: Interface) -> int | None:
    """Returns the number of classes where the one output is [batch, classes]."""
    sizes = _only_output(interface)
    return sizes[0] if sizes is not None and len(sizes) == 1 else None


def frames(interface: Interface) -> Frames | None:
    """Returns the sequence that the model gives: [batch, time, classes] or [time, batch, classes]."""
    if len(interface.outputs) != 1 or len(interface.outputs[0].shape) != 3:
        return None
    batch = interface.inputs[0].shape[0]
    first, second, last = interface.outputs[0].shape
    if not isinstance(last, int):
        return None
    if isinstance(second, int) and (isinstance(first, str) or first == batch):
        return Frames(second, last)
    if isinstance(first, int) and (isinstance(second, str) or second == batch):
        return Frames(first, last, first=True)
    return None


def boxes(interface: Interface) -> int | None:
    """Returns the number of classes of a detector whose output is [batch, points of three maps, 5 + classes]."""
    image, sizes = picture(interface), _only_output(interface)
    if image is None or sizes is None or len(sizes) != 2:
        return None
    points = sum(-(-image.height // s) * -(-image.width // s) for s in STRIDES)
    return sizes[1] - 5 if sizes[0] == points and sizes[1] > 5 else None


def segments(interface: Interface) -> Map | None:
    """Returns the map that the model gives: [batch, classes, height, width], or the classes last."""
    image, sizes = picture(interface), _only_output(interface)
    if image is None or sizes is None or len(sizes) != 3:
        return None
    if image.last or (sizes[2] < sizes[0] and sizes[2] < sizes[1]):
        return Map(sizes[2], sizes[0], sizes[1], last=True)
    return Map(sizes[0], sizes[1], sizes[2])


def interface_of(model: ir.Model) -> Interface:
    """Reads the interface of a teacher.

    Args:
        model: With inferred shapes.
    """
    from edgewright.graph.load import tensor_specs

    inputs, outputs = tensor_specs(model)
    table = _table(model)
    return Interface(inputs, outputs, _ending(model), table, _padding(model) if table else None)


def _fixed(spec: TensorSpec) -> tuple[int, ...] | None:
    """Returns the sizes behind the batch axis; None where one is open."""
    sizes = tuple(size for size in spec.shape[1:] if isinstance(size, int))
    return sizes if len(sizes) == len(spec.shape) - 1 else None


def _only_output(interface: Interface) -> tuple[int, ...] | None:
    if len(interface.outputs) != 1 or not interface.outputs[0].dtype.startswith("float"):
        return None
    return _fixed(interface.outputs[0])


def _ending(model: ir.Model) -> str:
    """Returns the activation that outputs went through; data may have been moved since."""
    found = {_activation(value) for value in model.graph.outputs}
    return found.pop() if len(found) == 1 else ""


_MOVING = ("Concat", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Flatten", "Cast")


def _activation(value: ir.Value) -> str:
    for node in _moved_from(value):
        if node.op_type in ENDINGS:
            return node.op_type
    return ""


def _moved_from(value: ir.Value) -> Iterator[ir.Node]:
    """Yields the nearest nodes behind `value` that compute."""
    pending = [value]
    while pending:
        node = pending.pop().producer()
        if node is None:
            continue
        if node.op_type in _MOVING:
            pending += [each for each in node.inputs if each is not None]
        else:
            yield node


def _from_input(value: ir.Value | None) -> bool:
    """Says whether a value is an input of the graph, but for its dtype."""
    while value is not None and (node := value.producer()) is not None and node.op_type in ("Cast", "Identity"):
        value = node.inputs[0]
    return value is not None and value.is_graph_input()


def _table(model: ir.Model) -> int:
    """Returns the rows of the largest table that an input looks up."""
    tables = (
        node.inputs[0].const_value.shape.numpy()
        for node in model.graph
        if node.op_type == "Gather"
        and node.inputs[0] is not None
        and node.inputs[0].const_value is not None
        and _from_input(node.inputs[1])
    )
    return max((shape[0] for shape in tables if len(shape) == 2), default=0)


def _padding(model: ir.Model) -> int | None:
    """Returns the one number that the graph compares its tokens with."""
    found = set()
    for node in model.graph:
        if node.op_type != "Equal" or not any(_from_input(value) for value in node.inputs):
            continue
        constants = [v.const_value.numpy() for v in node.inputs if v is not None and v.const_value is not None]
        found |= {int(each.reshape(-1)[0]) for each in constants if each.size == 1}
    return found.pop() if len(found) == 1 else None
