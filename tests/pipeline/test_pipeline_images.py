from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Preprocess
from edgewright.pipeline.boxes import to_original


def run(value, *ops):
    return Preprocess.from_spec(ops, Path())(value)


def only(prepared):
    (array,) = prepared.tensors.values()
    return array


def jpeg(image):
    return cv2.imencode(".jpg", image[:, :, ::-1])[1].tobytes()


def png(image):
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def picture():
    y, x = np.mgrid[:60, :90]
    return np.stack([x * 2, y * 3, x + y], axis=2).astype(np.uint8)


def test_decode_gives_rgb(picture):
    assert np.array_equal(only(run(png(picture), {"op": "decode"})), picture)
    prepared = run(png(picture), {"op": "decode"})
    assert prepared.geometry["size"] == (60, 90)


def test_decode_takes_paths_and_arrays(picture, tmp_path):
    (tmp_path / "a.png").write_bytes(png(picture))
    for value in (tmp_path / "a.png", str(tmp_path / "a.png"), picture, np.frombuffer(png(picture), np.uint8)):
        assert np.array_equal(only(run(value, {"op": "decode"})), picture)


def test_decode_gray(picture):
    gray = only(run(png(picture), {"op": "decode", "color": "gray"}))
    assert gray.shape == (60, 90, 1)
    assert np.abs(only(run(picture, {"op": "decode", "color": "gray"})).astype(int) - gray).max() <= 1
    assert only(run(picture[:, :, 0], {"op": "decode"})).shape == (60, 90, 3)


@pytest.mark.parametrize("encode", [jpeg, png])
def test_a_cut_off_image_is_refused(picture, encode):
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode(noisy)
    assert only(run(data, {"op": "decode"})).shape == (64, 64, 3)
    for part in (0.3, 0.6, 0.95):
        with pytest.raises(DataError, match="cut off"):
            run(data[: int(len(data) * part)], {"op": "decode"})
    with pytest.raises(DataError, match="cut off"):
        run(data[:9], {"op": "decode"})


def test_bytes_after_an_image_do_no_harm(picture):
    assert only(run(jpeg(picture) + b"\xff\xda trailer", {"op": "decode"})).shape == (60, 90, 3)


@pytest.mark.parametrize("value", [b"", b"not an image", "/nowhere/at/all.jpg", 5, np.zeros((4, 4, 2), np.uint8)])
def test_what_is_no_image_is_refused(value):
    with pytest.raises(DataError) as caught:
        run(value, {"op": "decode"})
    assert "preprocess[0]" in caught.value.message
    assert caught.value.hint


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(8, 128), st.integers(8, 128)),
    st.sampled_from(["top-left", "centre"]),
    st.booleans(),
)
def test_letterbox_geometry_leads_back(size, target, anchor, upscale):
    image = np.full((*size, 3), 7, np.uint8)
    op = {"op": "letterbox", "size": target, "pad": 200, "anchor": anchor, "upscale": upscale}
    prepared = run(image, op)
    boxed, geometry = only(prepared), prepared.geometry
    assert boxed.shape == (*target, 3)
    rows, columns = np.nonzero((boxed == 7).all(axis=2))
    filled = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], float)
    assert (boxed != 7).all(axis=2).sum() == target[0] * target[1] - len(rows)
    np.testing.assert_allclose(to_original(filled, geometry), [[0, 0, size[1], size[0]]], atol=1e-6)
    scale_y, scale_x = geometry["scale"]
    assert abs(scale_y * size[0] - scale_x * size[0]) < max(1.0, size[0] / size[1], size[1] / size[0]) + 1e-6


def test_letterbox_fills_one_side_exactly():
    for size in ((450, 313), (313, 450), (375, 500), (416, 416), (1, 999)):
        geometry = run(np.zeros((*size, 3), np.uint8), {"op": "letterbox", "size": [416, 416]}).geometry
        reach = [n * s for n, s in zip(size, geometry["scale"], strict=True)]
        assert max(reach) == pytest.approx(416)


def test_letterbox_pads_at_the_right_place():
    image = np.full((10, 20, 3), 9, np.uint8)
    top = only(run(image, {"op": "letterbox", "size": [20, 20]}))
    assert (top[:10] == 9).all()
    assert (top[10:] == 114).all()
    middle = only(run(image, {"op": "letterbox", "size": [20, 20], "anchor": "centre"}))
    assert (middle[5:15] == 9).all()
    assert (middle[:5] == 114).all()


def test_geometry_of_several_operations_multiplies(picture):
    prepared = run(
        picture,
        {"op": "resize", "size": [120, 180]},
        {"op": "crop", "size": [100, 100]},
        {"op": "letterbox", "size": [50, 60], "anchor": "centre"},
    )
    geometry = prepared.geometry
    assert geometry["size"] == (60, 90)
    assert geometry["input"] == (50, 60)
    whole = np.array([[0.0, 0.0, 60.0, 50.0]])
    x1, y1, x2, y2 = to_original(whole, geometry)[0]
    assert (y1, y2) == pytest.approx((5, 55))  # the crop took rows 10..110 of 120
    assert (x1, x2) == pytest.approx((15, 75))  # columns 40..140 of 180, and 5 columns of padding each side


def test_resize_keeps_axes_and_shorter_side(picture):
    assert only(run(picture[:, :, :1], {"op": "resize", "size": [30, 40]})).shape == (30, 40, 1)
    assert only(run(picture[:, :, 0], {"op": "resize", "size": [30, 40]})).shape == (30, 40)
    kept = run(picture, {"op": "resize", "size": [30, 30], "keep": "short"})
    assert only(kept).shape == (30, 45, 3)


def test_resize_is_bilinear_at_pixel_centres():
    ramp = np.tile(np.arange(8, dtype=np.float32)[None, :], (4, 1))
    half = only(run(ramp, {"op": "resize", "size": [2, 4]}))
    np.testing.assert_allclose(half[0], [0.5, 2.5, 4.5, 6.5])


def test_crop_fills_what_is_missing(picture):
    cut = only(run(picture, {"op": "crop", "size": [80, 50], "pad": 3}))
    assert (cut[:10] == 3).all()
    assert (cut[70:] == 3).all()
    assert np.array_equal(cut[10:70], picture[:, 20:70])
    corner = only(run(picture, {"op": "crop", "size": [5, 6], "anchor": "top-left"}))
    assert np.array_equal(corner, picture[:5, :6])


def test_order_and_layout(picture):
    bgr = only(run(picture, {"op": "channel-order", "order": "bgr"}, {"op": "layout", "order": "chw"}))
    assert np.array_equal(bgr, picture[:, :, ::-1].transpose(2, 0, 1))
    assert bgr.flags["C_CONTIGUOUS"]
    assert only(run(picture[:, :, 0], {"op": "layout", "order": "chw"})).shape == (1, 60, 90)
    with pytest.raises(DataError, match="channel-order"):
        run(picture[:, :, 0], {"op": "channel-order", "order": "bgr"})


@pytest.mark.parametrize(
    "op",
    [
        {"op": "resize", "size": [0, 4]},
        {"op": "resize", "size": [4]},
        {"op": "letterbox", "size": [4, 4], "anchor": "bottom"},
        {"op": "crop"},
        {"op": "layout", "order": "nchw"},
    ],
)
def test_bad_fields_are_refused(op):
    with pytest.raises(ConfigError, match=r"preprocess\[0\]"):
        Preprocess.from_spec([op], Path())


def test_an_image_of_integers_must_be_cast_before_resizing():
    with pytest.raises(DataError, match="int64") as caught:
        run(np.zeros((4, 4), np.int64), {"op": "resize", "size": [2, 2]})
    assert "cast" in caught.value.hint
