"""Resize, Pad, blocks and normalisations of TensorFlow Lite files against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXACT = 100.0
CASES = settings(max_examples=5, deadline=None, derandomize=True)
MANY = settings(max_examples=150, deadline=None, derandomize=True)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
"""The last one places picks on whole numbers but for the last bit of a float; it is drawn for weighted modes only."""
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
NONE = np.zeros(0, np.float32)


def noise(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def resizes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]:
    """Shape of an input; roi, scales and sizes; attributes."""
    shape = (1, 3, draw(st.integers(2, 9)), draw(st.integers(2, 9)))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    known = COORDINATES if mode != "nearest" else COORDINATES[:-1]
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(known))}
    if mode == "nearest":
        attributes["nearest_mode"] = draw(st.sampled_from(ROUNDING))
    if mode == "cubic":
        attributes["exclude_outside"] = draw(st.integers(0, 1))
    sizes = [draw(st.integers(2, 20)) for _ in range(2)]
    if draw(st.booleans()):
        return shape, (NONE, NONE, np.asarray([1, 3, *sizes])), attributes
    factors = [draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])) for _ in range(2)]
    whole = [int(n * f) for n, f in zip(shape[2:], factors, strict=True)]
    if min(whole) < 2 or attributes["coordinate_transformation_mode"] == "align_corners":
        factors = [2.0, 3.0]
    return shape, (NONE, np.asarray([1, 1, *factors], np.float32)), attributes


def check_resize(judge: Any, drawn: tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]) -> None:
    shape, constants, attributes = drawn
    assert judge.one("Resize", noise(*shape), *constants, **attributes).decibels > EXACT


@CASES
@given(resizes())
def test_resizes(judge: Any, drawn: tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]) -> None:
    check_resize(judge, drawn)


@pytest.mark.slow
@MANY
@given(resizes())
def test_many_resizes(judge: Any, drawn: tuple[tuple[int, ...], tuple[Any, ...], dict[str, Any]]) -> None:
    check_resize(judge, drawn)


@pytest.mark.parametrize("coordinates", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_linear_resizes_are_native(judge: Any, coordinates: str) -> None:
    x, factors = noise(1, 3, 6, 5), np.asarray([1, 1, 2, 2], np.float32)
    found = judge.one("Resize", x, NONE, factors, mode="linear", coordinate_transformation_mode=coordinates)
    assert found.ops == ("RESIZE_BILINEAR",)
    assert not found.left


def test_nearest_resizes_are_native(judge: Any) -> None:
    """What PyTorch and YOLO exports ask for."""
    x, factors = noise(1, 3, 6, 5), np.asarray([1, 1, 2, 2], np.float32)
    asked = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    assert judge.one("Resize", x, NONE, factors, **asked).ops == ("RESIZE_NEAREST_NEIGHBOR",)


def test_smaller_images_are_filtered(judge: Any) -> None:
    factors = np.asarray([1, 1, 0.6, 0.5], np.float32)
    for mode in ("linear", "cubic"):
        assert judge.one("Resize", noise(1, 3, 11, 12), NONE, factors, mode=mode, antialias=1).decibels > EXACT


def test_regions_of_interest(judge: Any) -> None:
    region = np.asarray([0, 0, 0.2, 0.3, 1, 1, 0.7, 1.2], np.float32)
    for mode in ("nearest", "linear"):
        asked = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0, "mode": mode}
        found = judge.one("Resize", noise(1, 3, 8, 8), region, NONE, np.asarray([1, 3, 5, 6]), **asked)
        assert found.decibels > EXACT


@pytest.mark.parametrize("rank", [1, 3])
def test_resizes_of_sequences_and_volumes(judge: Any, rank: int) -> None:
    x, factors = noise(1, 3, *(5, 4, 6)[:rank]), np.asarray([1, 1, *[2] * rank], np.float32)
    for mode in ("nearest", "linear"):
        assert judge.one("Resize", x, NONE, factors, mode=mode).decibels > EXACT


@CASES
@given(st.lists(st.integers(-2, 3), min_size=8, max_size=8), st.integers(1, 4))
def test_pads_and_cuts(judge: Any, amounts: list[int], rank: int) -> None:
    check_pad(judge, amounts, rank, "constant")


@CASES
@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=8), st.sampled_from(["reflect", "edge", "wrap"]), st.integers(1, 4)
)
def test_pads_from_inside(judge: Any, amounts: list[int], mode: str, rank: int) -> None:
    check_pad(judge, amounts, rank, mode)


def check_pad(judge: Any, amounts: list[int], rank: int, mode: str) -> None:
    x = noise(*(5, 6, 7, 8)[:rank])
    found = judge.one("Pad", x, np.asarray([*amounts[:rank], *amounts[4 : 4 + rank]]), mode=mode)
    assert found.decibels == float("inf")


def test_pads_of_some_axes_with_a_value(judge: Any) -> None:
    x, amounts = noise(1, 3, 4, 5), np.asarray([1, 2, 0, 3])
    found = judge.one("Pad", x, amounts, np.float32(2.5), np.asarray([-1, 2]))
    assert found.decibels == float("inf")


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(judge: Any, mode: str) -> None:
    assert judge.one("DepthToSpace", noise(1, 12, 3, 4), blocksize=2, mode=mode).decibels == float("inf")
    assert judge.one("SpaceToDepth", noise(1, 3, 6, 4), blocksize=2).decibels == float("inf")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_normalisations(judge: Any, rank: int) -> None:
    x, scale, bias = noise(1, 4, *(5, 6, 7)[:rank]), noise(4), noise(4)
    assert judge.one("BatchNormalization", x, scale, bias, noise(4), np.abs(noise(4))).decibels > EXACT
    assert judge.one("InstanceNormalization", x, scale, bias, epsilon=1e-3).decibels > EXACT
    for groups in (1, 2, 4):
        found = judge.one("GroupNormalization", x, scale, bias, num_groups=groups, opset=21)
        assert found.decibels > EXACT


def test_local_response_normalisation(judge: Any) -> None:
    for beta in (0.5, 0.75, 1.0, 0.6):
        found = judge.one("LRN", noise(1, 8, 5, 6), size=5, alpha=0.1, beta=beta, bias=2.0)
        assert found.decibels > EXACT
        assert set(found.left) <= {"POW"}
