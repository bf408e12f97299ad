"""Pads: those of windows that no scheme of TensorFlow Lite gives, and the operator Pad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.errors import StepFailed
from edgewright.targets._tflite.emission import Emission
from edgewright.targets._tflite.rules import Rules
from edgewright.targets._tflite.rules.window import VALID, Window

LOWEST = float("-inf")
_REFLECT, _SYMMETRIC = 0, 1


def padded(e: Emission, data: int, window: Window, name: str, *, value: float = 0.0) -> tuple[int, int]:
    """Returns the data to slide over and the padding scheme; a PAD is emitted where no scheme gives the pads.

    Args:
        e: The file.
        data: [N, spatial..., C].
        window: Slides over it.
        name: Of what is made.
        value: To pad with; `LOWEST` for the smallest number.
    """
    scheme = window.scheme()
    if scheme is not None:
        return data, scheme
    return pad_with(e, data, ((0, 0), *window.needed(), (0, 0)), name, value=value), VALID


def pad_with(
    e: Emission, data: int, pads: Sequence[tuple[int, int]], name: str, *, value: float = 0.0, into: int | None = None
) -> int:
    """Emits PAD where that pads with the wanted number, PADV2 else; returns what it writes.

    PAD fills with what stands for zero; the XNNPACK delegate knows only that one.
    """
    size = e.tensor(data).shape
    shape = [n + before + after for n, (before, after) in zip(size, pads, strict=True)]
    made = e.temp(data, shape, f"{name}/padded") if into is None else into
    amounts = e.const(np.asarray(pads, np.int32), f"{name}/pads")
    if value == 0.0 or (value == LOWEST and _zero_is_lowest(e, data)):
        e.op("PAD", [data, amounts], [made], "PadOptions")
    else:
        e.op("PADV2", [data, amounts, fill(e, data, value, name)], [made], "PadV2Options")
    return made


def fill(e: Emission, data: int, value: float, name: str) -> int:
    """Returns a scalar of the type of `data` to pad with; the smallest one for minus infinity."""
    tensor = e.tensor(data)
    kind = np.dtype(tensor.dtype)
    if tensor.quantisation is None:
        number = max(value, float(np.finfo(kind).min)) if kind.kind == "f" else value
        return e.const(np.asarray(number, kind), f"{name}/fill")
    limits = np.iinfo(kind)
    integer = np.clip(value / tensor.quantisation.scale[0] + tensor.quantisation.zero_point[0], limits.min, limits.max)
    return e.const(np.asarray(round(float(integer)), kind), f"{name}/fill", tensor.quantisation)


def pad(e: Emission, node: ir.Node) -> None:
    """PAD, PADV2, MIRROR_PAD; edges and wrapping as GATHER; negative amounts cut off first."""
    amounts = _amounts(e, node)
    data = cut(e, e.input(node, 0), amounts, node.name or "pad")
    grown = [(max(before, 0), max(after, 0)) for before, after in amounts]
    mode = node.attributes.get_string("mode", "constant")
    last = e.output(node)
    if mode == "constant":
        _constant(e, node, data, grown, last)
        return
    kind = _mirror(mode or "", grown, e.tensor(data).shape)
    if kind is not None:
        table = e.const(np.asarray(grown, np.int32), f"{node.name}/pads")
        e.op("MIRROR_PAD", [data, table], [last], "MirrorPadOptions", mode=kind)
        return
    _gathered(e, data, grown, mode or "", last, node.name or "pad")


def _constant(e: Emission, node: ir.Node, data: int, pads: Sequence[tuple[int, int]], last: int) -> None:
    said = e.constant(node, 2)
    if said is not None or len(node.inputs) < 3 or node.inputs[2] is None:
        value = 0.0 if said is None else float(said.reshape(-1)[0])
        pad_with(e, data, pads, node.name or "pad", value=value, into=last)
        return
    amounts = e.const(np.asarray(pads, np.int32), f"{node.name}/pads")
    e.op("PADV2", [data, amounts, e.input(node, 2)], [last], "PadV2Options")


def _amounts(e: Emission, node: ir.Node) -> list[tuple[int, int]]:
    """Reads (before, after) of every axis."""
    pads, axes = e.constant(node, 1), e.constant(node, 3)
    if pads is None:
        raise StepFailed(
            f"Pad {node.name}: its pads are computed",
            hint="fold them into constants; a TensorFlow Lite file has fixed sizes",
        )
    rank = len(e.shape(node, 0))
    listed = list(range(rank)) if axes is None else [int(axis) % rank for axis in axes.reshape(-1)]
    said = [int(n) for n in pads.reshape(-1)]
    found = [(0, 0)] * rank
    for axis, before, after in zip(listed, said[: len(listed)], said[len(listed) :], strict=True):
        found[axis] = (before, after)
    return found


def cut(e: Emission, data: int, amounts: Sequence[tuple[int, int]], name: str) -> int:
    """Returns `data` without what negative (before, after) of every axis take away."""
    begin = [max(-before, 0) for before, _ in amounts]
    end = [n - max(-after, 0) for n, (_, after) in zip(e.tensor(data).shape, amounts, strict=True)]
    shape = [high - low for low, high in zip(begin, end, strict=True)]
    return sliced(e, data, begin, shape, name)


def sliced(
    e: Emission, data: int, begin: Sequence[int], shape: Sequence[int], name: str, *, into: int | None = None
) -> int:
    """Returns a part of `data`; itself where that is everything and it may stay where it is."""
    if into is None and tuple(shape) == e.tensor(data).shape:
        return data
    made = e.temp(data, shape, f"{name}/part") if into is None else into
    start, size = (e.const(np.asarray(numbers, np.int32), f"{name}/part") for numbers in (begin, shape))
    e.op("SLICE", [data, start, size], [made], "SliceOptions")
    return made


def _mirror(mode: str, pads: Sequence[tuple[int, int]], shape: Sequence[int]) -> int | None:
    """Returns the mode of MIRROR_PAD that does the same, None if none does."""
    each = list(zip(pads, shape, strict=True))
    if mode == "reflect" and all(max(amounts) < n or not any(amounts) for amounts, n in each):
        return _REFLECT
    return _SYMMETRIC if mode == "edge" and all(max(amounts) <= 1 for amounts, _ in each) else None


def _gathered(e: Emission, data: int, pads: Sequence[tuple[int, int]], mode: str, last: int, name: str) -> None:
    """Picks along one axis after the other."""
    moved = [axis for axis, amounts in enumerate(pads) if any(amounts)] or [0]
    for axis in moved:
        size = e.tensor(data).shape[axis]
        picks = _picks(mode, size, *pads[axis])
        shape = list(e.tensor(data).shape)
        shape[axis] = len(picks)
        made = last if axis == moved[-1] else e.temp(data, shape, f"{name}/padded_{axis}")
        gather(e, data, picks, axis, made, name)
        data = made


def gather(e: Emission, data: int, picks: NDArray[np.int32], axis: int, made: int, name: str) -> None:
    """Emits GATHER of constant indices along one axis."""
    e.op("GATHER", [data, e.const(picks, f"{name}/picks_{axis}")], [made], "GatherOptions", axis=axis)


def _picks(mode: str, size: int, before: int, after: int) -> NDArray[np.int32]:
    places = np.arange(-before, size + after)
    if mode == "wrap":
        places = places % size
    elif mode == "edge":
        places = places.clip(0, size - 1)
    else:
        period = max(2 * (size - 1), 1)
        places = (size - 1) - np.abs(places % period - (size - 1))
    return places.astype(np.int32)


def _zero_is_lowest(e: Emission, data: int) -> bool:
    tensor = e.tensor(data)
    if tensor.quantisation is None:
        return False
    return tensor.quantisation.zero_point[0] == np.iinfo(tensor.dtype).min


RULES: Rules = {("", "Pad"): pad}
