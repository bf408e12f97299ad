"""Convolutions, transposed convolutions and pools of TensorFlow Lite files against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = 100.0
CASES = settings(max_examples=5, deadline=None, derandomize=True)
MANY = settings(max_examples=120, deadline=None)


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def windows(draw: st.DrawFn, *, dilated: bool = True, rank: int = 2) -> dict[str, Any]:
    """Attributes of a window over axes of 7 to 12 elements that fits, with pads smaller than the kernel."""
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    kernel = draw(each)
    dilations = [d if dilated else 1 for d in draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank))]
    pads = [draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)]
    return {"kernel_shape": kernel, "strides": draw(each), "dilations": dilations, "pads": pads}


@st.composite
def images(draw: st.DrawFn, channels: int = 4, rank: int = 2) -> tuple[int, ...]:
    """Shapes: an array is long to print and to shrink."""
    return (1, channels, *draw(st.lists(st.integers(7, 12), min_size=rank, max_size=rank)))


def check_convolution(judge: Any, shape: tuple[int, ...], window: dict[str, Any], group: int, outputs: int) -> None:
    weights, bias = noise(outputs, shape[1] // group, *window["kernel_shape"]), noise(outputs)
    found = judge.one("Conv", noise(*shape), weights, bias, group=group, **window)
    assert found.decibels > EXACT
    assert not found.left or len(shape) == 5


@CASES
@given(images(), windows(), st.sampled_from([1, 2, 4]), st.sampled_from([4, 8]))
def test_convolutions(judge: Any, shape: tuple[int, ...], window: dict[str, Any], group: int, outputs: int) -> None:
    check_convolution(judge, shape, window, group, outputs)


@pytest.mark.slow
@MANY
@given(st.data(), st.sampled_from([1, 2, 3]))
def test_convolutions_of_sequences_images_and_volumes(judge: Any, data: st.DataObject, rank: int) -> None:
    group = data.draw(st.sampled_from([1, 2, 4])) if rank < 3 else 1
    check_convolution(judge, data.draw(images(rank=rank)), data.draw(windows(rank=rank, dilated=rank < 3)), group, 8)


@pytest.mark.parametrize(
    ("size", "stride", "ops"), [(8, 2, ("PAD", "CONV_2D")), (9, 2, ("CONV_2D",)), (8, 1, ("CONV_2D",))]
)
def test_pads_that_a_scheme_gives_cost_no_pad(judge: Any, size: int, stride: int, ops: tuple[str, ...]) -> None:
    """PyTorch's symmetric pads of one are SAME unless the stride halves an even size."""
    found = judge.one("Conv", noise(1, 4, size, size), noise(4, 4, 3, 3), pads=[1] * 4, strides=[stride] * 2)
    assert (found.ops, found.decibels > EXACT) == (ops, True)


def test_automatic_pads(judge: Any) -> None:
    x, weights = noise(1, 4, 9, 10), noise(4, 4, 3, 4)
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        assert judge.one("Conv", x, weights, auto_pad=auto, strides=[2, 2]).decibels > EXACT


def check_transposed(judge: Any, shape: tuple[int, ...], window: dict[str, Any], group: int, extra: list[int]) -> None:
    grown = [min(e, s - 1) for e, s in zip(extra, window["strides"], strict=True)]
    weights, bias = noise(shape[1], 6 // group, *window["kernel_shape"]), noise(6)
    found = judge.one("ConvTranspose", noise(*shape), weights, bias, group=group, output_padding=grown, **window)
    assert found.decibels > EXACT


@CASES
@given(images(), windows(), st.sampled_from([1, 2]), st.lists(st.integers(0, 1), min_size=2, max_size=2))
def test_transposed_convolutions(
    judge: Any, shape: tuple[int, ...], window: dict[str, Any], group: int, extra: list[int]
) -> None:
    check_transposed(judge, shape, window, group, extra)


@pytest.mark.slow
@MANY
@given(st.data(), st.sampled_from([1, 2, 3]))
def test_transposed_convolutions_of_every_rank(judge: Any, data: st.DataObject, rank: int) -> None:
    extra = data.draw(st.lists(st.integers(0, 1), min_size=rank, max_size=rank))
    group = data.draw(st.sampled_from([1, 2]))
    check_transposed(judge, data.draw(images(rank=rank)), data.draw(windows(rank=rank, dilated=rank < 3)), group, extra)


def test_common_transposed_convolutions_are_not_cropped(judge: Any) -> None:
    """Kernel 4 stride 2 pad 1, kernel 2 stride 2: what decoders are made of."""
    x = noise(1, 4, 7, 6)
    padded = judge.one("ConvTranspose", x, noise(4, 3, 4, 4), noise(3), strides=[2, 2], pads=[1] * 4)
    plain = judge.one("ConvTranspose", x, noise(4, 3, 2, 2), noise(3), strides=[2, 2])
    for found in (padded, plain):
        assert found.decibels > EXACT
        assert not {"SLICE", "PAD"} & set(found.ops)


@CASES
@given(images(channels=6), windows(), st.booleans())
def test_depthwise_transposed_convolutions(
    judge: Any, shape: tuple[int, ...], window: dict[str, Any], biased: bool
) -> None:
    weights, bias = noise(6, 1, *window["kernel_shape"]), noise(6) if biased else None
    found = judge.one("ConvTranspose", noise(*shape), weights, bias, group=6, **window)
    assert found.decibels > EXACT
    assert "TRANSPOSE_CONV" not in found.ops
    assert not found.left


def test_output_shape_of_a_transposed_convolution(judge: Any) -> None:
    x, weights = noise(1, 4, 7, 6), noise(4, 3, 3, 3)
    for auto in ("NOTSET", "SAME_UPPER", "SAME_LOWER"):
        found = judge.one("ConvTranspose", x, weights, strides=[2, 3], output_shape=[14, 18], auto_pad=auto)
        assert found.decibels > EXACT


def check_pool(judge: Any, op: str, shape: tuple[int, ...], window: dict[str, Any], **attributes: int) -> Any:
    found = judge.one(op, noise(*shape), **window, **attributes)
    assert found.decibels > EXACT
    return found


@CASES
@given(images(), windows(), st.booleans())
def test_maximum_pools(judge: Any, shape: tuple[int, ...], window: dict[str, Any], ceiled: bool) -> None:
    check_pool(judge, "MaxPool", shape, window, ceil_mode=ceiled)


@CASES
@given(images(), windows(), st.booleans(), st.booleans())
def test_average_pools(judge: Any, shape: tuple[int, ...], window: dict[str, Any], ceiled: bool, counted: bool) -> None:
    check_pool(judge, "AveragePool", shape, window, ceil_mode=ceiled, count_include_pad=counted)


@pytest.mark.slow
@MANY
@given(st.data(), st.sampled_from([1, 2, 3]), st.sampled_from(["MaxPool", "AveragePool"]))
def test_pools_of_every_rank(judge: Any, data: st.DataObject, rank: int, op: str) -> None:
    counted = {"count_include_pad": data.draw(st.booleans())} if op == "AveragePool" else {}
    shape, window = data.draw(images(rank=rank)), data.draw(windows(rank=rank))
    check_pool(judge, op, shape, window, ceil_mode=data.draw(st.booleans()), **counted)


def test_pools_of_powers(judge: Any) -> None:
    for p in (1, 2, 3):
        found = judge.one(
            "LpPool", noise(1, 4, 9, 8), p=p, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1], opset=18
        )
        assert found.decibels > EXACT
        assert judge.one("GlobalLpPool", noise(1, 4, 9), p=p).decibels > EXACT


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_pools(judge: Any, op: str, rank: int) -> None:
    found = judge.one(op, noise(1, 4, *(5, 6, 7)[:rank]))
    assert found.decibels > EXACT
    assert not found.left
