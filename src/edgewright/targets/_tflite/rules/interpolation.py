"""The arithmetic of Resize: where each output element looks, and with which weights.

Source: ONNX operator Resize, opset 19; kernels of TensorFlow Lite: resize_nearest_neighbor.h and resize_bilinear.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Picks = NDArray[np.int64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis being resized.

    Attributes:
        size: Of the input.
        out: Of the output.
        scale: Output per input as the model declares it, which need not be `out / size`.
        coordinates: The attribute `coordinate_transformation_mode`.
        start: Of the region of interest, as a share of the axis.
        end: Likewise.
    """

    size: int
    out: int
    scale: float
    coordinates: str
    start: float = 0.0
    end: float = 1.0

    def places(self) -> NDArray[np.float32]:
        """Returns the coordinate in the input of every output element."""
        at, scale = np.arange(self.out, dtype=np.float32), np.float32(self.scale)
        half = (at + np.float32(0.5)) / scale - np.float32(0.5)
        if self.coordinates == "half_pixel" or (self.coordinates == "pytorch_half_pixel" and self.out > 1):
            return np.asarray(half)
        if self.coordinates == "half_pixel_symmetric":
            share = np.float32(self.out) / (scale * np.float32(self.size))
            return np.asarray(np.float32(self.size / 2) * (np.float32(1) - share) + half)
        if self.coordinates == "asymmetric":
            return np.asarray(at / scale)
        if self.coordinates == "tf_half_pixel_for_nn":
            return np.asarray((at + np.float32(0.5)) / scale)
        return self._between_ends(at)

    def _between_ends(self, at: NDArray[np.float32]) -> NDArray[np.float32]:
        """Modes in which ends meet ends; the output is as wide as the scale says, which need not be a whole number."""
        last, width = self.size - 1, self.scale * self.size
        if abs(width - self.out) < 1e-4 * self.out:
            width = self.out
        if self.coordinates == "align_corners" and width != 1:
            return np.asarray(at * np.float32(last) / np.float32(width - 1))
        if self.coordinates == "tf_crop_and_resize":
            if self.out == 1:
                return np.full(1, 0.5 * (self.start + self.end) * last, np.float32)
            step = np.float32((self.end - self.start) * last / (width - 1))
            return np.asarray(np.float32(self.start * last) + at * step, np.float32)
        return np.zeros_like(at)

    def outside(self) -> NDArray[np.bool_]:
        """Returns which output elements take the extrapolation value."""
        places = self.places()
        return ((places < 0) | (places > self.size - 1)) & (self.coordinates == "tf_crop_and_resize")


def nearest(axis: Axis, rounding: str) -> Picks:
    """Returns the input element of every output element.

    Args:
        axis: Resized.
        rounding: The attribute `nearest_mode`.
    """
    places = axis.places()
    if axis.size == axis.out and axis.scale == 1.0:
        return np.arange(axis.out)
    found = {
        "floor": np.floor(places),
        "ceil": np.ceil(places),
        "round_prefer_floor": np.ceil(places - np.float32(0.5)),
        "round_prefer_ceil": np.floor(places + np.float32(0.5)),
    }[rounding]
    picks: Picks = found.clip(0, axis.size - 1).astype(np.int64)
    return picks


def nearest_of_tflite(size: int, out: int, *, corners: bool, half: bool) -> Picks:
    """Returns what RESIZE_NEAREST_NEIGHBOR picks."""
    scale = _scale_of_tflite(size, out, corners=corners)
    at = (np.arange(out, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
    places = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
    found: Picks = places.clip(0, size - 1).astype(np.int64)
    return found


def linear_of_tflite(size: int, out: int, *, corners: bool, half: bool) -> Matrix:
    """Returns the weights [out, size] of RESIZE_BILINEAR."""
    scale = _scale_of_tflite(size, out, corners=corners)
    at = np.arange(out, dtype=np.float32)
    places = (at + np.float32(0.5)) * scale - np.float32(0.5) if half else at * scale
    return _two_taps(places.clip(0, size - 1), size)


def weights(axis: Axis, mode: str, *, cubic: float, exclude: bool, antialias: bool) -> Matrix:
    """Returns the weights [out, size] of one axis.

    Args:
        axis: Resized.
        mode: `linear` or `cubic`.
        cubic: The attribute `cubic_coeff_a`.
        exclude: Taps outside the input weigh nothing, instead of repeating its edge.
        antialias: Smaller sizes are filtered over as much more of the input.
    """
    if axis.size == axis.out and axis.scale == 1.0:
        return np.eye(axis.size)
    stretch = max(1.0 / axis.scale, 1.0) if antialias else 1.0
    reach = (2.0 if mode == "cubic" else 1.0) * stretch
    places = axis.places().astype(np.float64)
    if mode == "linear" and not antialias:
        return _two_taps(places.clip(0, axis.size - 1), axis.size)
    taps = np.floor(places)[:, None] + np.arange(1 - int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    distance = np.abs(places[:, None] - taps) / stretch
    share = _cubic(distance, cubic) if mode == "cubic" else np.maximum(1.0 - distance, 0.0)
    if exclude:
        share = share * ((taps >= 0) & (taps <= axis.size - 1))
    share = share / share.sum(1, keepdims=True)
    found = np.zeros((axis.out, axis.size))
    np.add.at(found, (np.arange(axis.out)[:, None], taps.clip(0, axis.size - 1).astype(np.int64)), share)
    return found


def _cubic(distance: Matrix, a: float) -> Matrix:
    """The kernel of Keys (1981)."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _two_taps(places: NDArray[np.floating], size: int) -> Matrix:
    low = np.floor(places).astype(np.int64)
    share = places - low
    found = np.zeros((len(places), size))
    rows = np.arange(len(places))
    np.add.at(found, (rows, low), 1.0 - share)
    np.add.at(found, (rows, np.minimum(low + 1, size - 1)), share)
    return found


def _scale_of_tflite(size: int, out: int, *, corners: bool) -> float:
    exact = (size - 1) / (out - 1) if corners and out > 1 else size / out
    return float(np.float32(exact))
