"""Rules for operators that take parts of tensors, join and repeat them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.errors import SourceError
from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule, axis_of, ints, name_of, scalar, value_of, wide_integers
from edgewright.formats.tflite.reader import TfliteOperator

_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Cut:
    """What a slice takes: axis -> (start, end, step) where it is not taken whole; axes that vanish; axes that appear.

    Attributes:
        bounds: By axis of the input.
        dropped: Axes of the input.
        added: Axes of the output.
    """

    bounds: dict[int, tuple[int, int, int]]
    dropped: tuple[int, ...] = ()
    added: tuple[int, ...] = ()


def strided_slice(e: Emitter, op: TfliteOperator) -> None:
    """STRIDED_SLICE and SLICE with constant bounds."""
    shape, name = e.tensor(op.inputs[0]).shape, e.tensor(op.outputs[0]).name
    cut = _slice(e, op, shape) if op.op == "SLICE" else _strided(e, op, shape)
    first = e.has_first(op.inputs[0]) and not cut.dropped and not cut.added
    value = value_of(e, op.inputs[0], first=first)
    if cut.bounds:
        axes = [axis_of(a, len(shape), first=first) for a in cut.bounds]
        starts, ends, steps = zip(*cut.bounds.values(), strict=True)
        value = e.node("Slice", [value, *(ints(e, part, name) for part in (starts, ends, axes, steps))], f"{name}_part")
    if cut.dropped:
        value = e.node("Squeeze", [value, ints(e, cut.dropped, name)], f"{name}_squeezed")
    if cut.added:
        value = e.node("Unsqueeze", [value, ints(e, cut.added, name)], f"{name}_unsqueezed")
    if not (cut.bounds or cut.dropped or cut.added):
        value = e.node("Identity", [value], f"{name}_whole")
    e.rename(value, name_of(e, op, first=first))
    e.store(op.outputs[0], value, first=first)


def split(e: Emitter, op: TfliteOperator) -> None:
    """SPLIT into equal parts (inputs are axis and value) and SPLIT_V (value, sizes and axis)."""
    of, along = (op.inputs[1], op.inputs[0]) if op.op == "SPLIT" else (op.inputs[0], op.inputs[2])
    rank, first = len(e.tensor(of).shape), e.has_first(of)
    axis = scalar(e, along) % rank
    sizes = [e.tensor(n).shape[axis] for n in op.outputs]
    names = [name_of(e, op, first=first, output=index) for index in range(len(op.outputs))]
    inputs = [value_of(e, of, first=first)]
    even = {"num_outputs": len(sizes)} if len(set(sizes)) == 1 else {}
    if not even:
        inputs.append(ints(e, sizes, names[0]))
    parts = e.node_of_many("Split", inputs, names, axis=axis_of(axis, rank, first=first), **even)
    for number, value in zip(op.outputs, parts, strict=True):
        e.store(number, value, first=first)


def pack(e: Emitter, op: TfliteOperator) -> None:
    """PACK: tensors side by side along a new axis."""
    name, rank = e.tensor(op.outputs[0]).name, len(e.tensor(op.outputs[0]).shape)
    axis = op.options["axis"] % rank
    lanes = ints(e, [axis], name)
    values = [e.node("Unsqueeze", [e.last(n), lanes], f"{name}_lane") for n in op.inputs]
    e.store(op.outputs[0], e.node("Concat", values, name, axis=axis), first=False)


def unpack(e: Emitter, op: TfliteOperator) -> None:
    """UNPACK: the slices along an axis, which vanishes."""
    axis = op.options["axis"] % len(e.tensor(op.inputs[0]).shape)
    names = [e.tensor(n).name for n in op.outputs]
    lanes = [f"{name}_lane" for name in names]
    parts = e.node_of_many("Split", [e.last(op.inputs[0])], lanes, axis=axis, num_outputs=len(names))
    for number, part, name in zip(op.outputs, parts, names, strict=True):
        e.store(number, e.node("Squeeze", [part, ints(e, [axis], name)], name), first=False)


def gather(e: Emitter, op: TfliteOperator) -> None:
    """GATHER, and EMBEDDING_LOOKUP, whose indices come first."""
    name = e.tensor(op.outputs[0]).name
    if op.op == "EMBEDDING_LOOKUP":
        e.store(op.outputs[0], e.node("Gather", [e.last(op.inputs[1]), e.last(op.inputs[0])], name), first=False)
        return
    rank, shared = len(e.tensor(op.inputs[0]).shape), op.options["batch_dims"]
    axis = op.options["axis"] % rank
    shared %= len(e.tensor(op.inputs[1]).shape) + 1
    data, indices = e.last(op.inputs[0]), e.last(op.inputs[1])
    if not shared:
        value = e.node("Gather", [data, indices], name, axis=axis)
    elif shared == axis:
        places = e.node("Unsqueeze", [wide_integers(e, op.inputs[1]), ints(e, [-1], name)], f"{name}_places")
        value = e.node("GatherND", [data, places], name, batch_dims=shared)
    else:
        raise SourceError(
            f'tensor "{name}": GATHER along axis {axis} with {shared} shared axes',
            hint="gather along the axis behind the shared ones",
        )
    e.store(op.outputs[0], value, first=False)


def gather_nd(e: Emitter, op: TfliteOperator) -> None:
    """GATHER_ND."""
    inputs = [e.last(op.inputs[0]), wide_integers(e, op.inputs[1])]
    e.store(op.outputs[0], e.node("GatherND", inputs, e.tensor(op.outputs[0]).name), first=False)


def scatter_nd(e: Emitter, op: TfliteOperator) -> None:
    """SCATTER_ND into zeros; values for one place are summed."""
    target = e.tensor(op.outputs[0])
    zeros = np.zeros(target.shape, np.float32 if target.scaled else np.dtype(target.dtype))
    inputs = [e.constant(zeros, f"{target.name}_zeros"), wide_integers(e, op.inputs[0]), e.last(op.inputs[1])]
    e.store(op.outputs[0], e.node("ScatterND", inputs, target.name, reduction="add"), first=False)


def reverse(e: Emitter, op: TfliteOperator) -> None:
    """REVERSE_V2: a slice backwards along every axis named."""
    rank, first = len(e.tensor(op.inputs[0]).shape), e.has_first(op.inputs[0])
    axes = [axis_of(int(n), rank, first=first) for n in e.need_array(op.inputs[1]).reshape(-1)]
    name = name_of(e, op, first=first)
    parts = ([_END] * len(axes), [-_END] * len(axes), axes, [-1] * len(axes))
    inputs = [value_of(e, op.inputs[0], first=first), *(ints(e, part, name) for part in parts)]
    e.store(op.outputs[0], e.node("Slice", inputs, name), first=first)


def tile(e: Emitter, op: TfliteOperator) -> None:
    """TILE."""
    inputs = [e.last(op.inputs[0]), wide_integers(e, op.inputs[1])]
    e.store(op.outputs[0], e.node("Tile", inputs, e.tensor(op.outputs[0]).name), first=False)


def broadcast_to(e: Emitter, op: TfliteOperator) -> None:
    """BROADCAST_TO and FILL, whose shape comes first."""
    target = e.tensor(op.outputs[0])
    source, shape = op.inputs if op.op == "BROADCAST_TO" else op.inputs[::-1]
    sizes = wide_integers(e, shape) if any(target.dynamic) else ints(e, target.shape, target.name)
    e.store(op.outputs[0], e.node("Expand", [e.last(source), sizes], target.name), first=False)


def reverse_sequence(e: Emitter, op: TfliteOperator) -> None:
    """REVERSE_SEQUENCE."""
    axes = {"time_axis": op.options["time_axis"], "batch_axis": op.options["batch_axis"]}
    if set(axes.values()) != {0, 1}:
        raise SourceError(
            f'tensor "{e.tensor(op.outputs[0]).name}": REVERSE_SEQUENCE along {axes}',
            hint="put time and batch in front",
        )
    inputs = [e.last(op.inputs[0]), wide_integers(e, op.inputs[1])]
    e.store(op.outputs[0], e.node("ReverseSequence", inputs, e.tensor(op.outputs[0]).name, **axes), first=False)


def _slice(e: Emitter, op: TfliteOperator, shape: tuple[int, ...]) -> _Cut:
    begin, length = ([int(n) for n in e.need_array(number)] for number in op.inputs[1:3])
    taken = {
        axis: (start, _END if size < 0 else start + size, 1)
        for axis, (start, size) in enumerate(zip(begin, length, strict=True))
    }
    return _Cut(_not_whole(taken, shape))


def _strided(e: Emitter, op: TfliteOperator, shape: tuple[int, ...]) -> _Cut:
    """Reads the masks entry by entry: one may stand for many axes (ellipsis) or for none (new axis)."""
    entries = list(zip(*([int(n) for n in e.need_array(number)] for number in op.inputs[1:4]), strict=True))
    taken: dict[int, tuple[int, int, int]] = {}
    dropped: list[int] = []
    added: list[int] = []
    axis = place = 0
    for index, (start, stop, step) in enumerate(entries):
        if _bit(op, "ellipsis_mask", index):
            skipped = len(shape) - axis - _consuming(op, range(index + 1, len(entries)))
            axis, place = axis + skipped, place + skipped
        elif _bit(op, "new_axis_mask", index):
            added.append(place)
            place += 1
        else:
            taken[axis] = _bound(op, index, start, stop, step)
            if _bit(op, "shrink_axis_mask", index):
                dropped.append(axis)
            else:
                place += 1
            axis += 1
    return _Cut(_not_whole(taken, shape), tuple(dropped), tuple(added))


def _consuming(op: TfliteOperator, indices: Sequence[int]) -> int:
    return sum(1 for index in indices if not _bit(op, "new_axis_mask", index))


def _bit(op: TfliteOperator, mask: str, index: int) -> bool:
    return bool(int(op.options[mask]) >> index & 1)


def _bound(op: TfliteOperator, index: int, start: int, stop: int, step: int) -> tuple[int, int, int]:
    if _bit(op, "shrink_axis_mask", index):
        return start, _END if start == -1 else start + 1, 1
    stop = start + stop if op.options["offset"] else stop
    low = (0 if step > 0 else _END) if _bit(op, "begin_mask", index) else start
    high = (_END if step > 0 else -_END) if _bit(op, "end_mask", index) else stop
    return low, high, step


def _not_whole(taken: dict[int, tuple[int, int, int]], shape: tuple[int, ...]) -> dict[int, tuple[int, int, int]]:
    return {a: (low, high, step) for a, (low, high, step) in taken.items() if (low, step) != (0, 1) or high < shape[a]}


RULES: dict[str, Rule] = {
    "STRIDED_SLICE": strided_slice,
    "SLICE": strided_slice,
    "SPLIT": split,
    "SPLIT_V": split,
    "PACK": pack,
    "UNPACK": unpack,
    "GATHER": gather,
    "EMBEDDING_LOOKUP": gather,
    "GATHER_ND": gather_nd,
    "SCATTER_ND": scatter_nd,
    "REVERSE_V2": reverse,
    "REVERSE_SEQUENCE": reverse_sequence,
    "TILE": tile,
    "BROADCAST_TO": broadcast_to,
    "FILL": broadcast_to,
}
