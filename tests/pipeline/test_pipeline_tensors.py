from pathlib import Path

import numpy as np
import pytest

from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Preprocess


def run(value, *ops):
    (array,) = Preprocess.from_spec(ops, Path())(value).tensors.values()
    return array


def test_normalise_per_channel():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    found = run(image, {"op": "normalise", "scale": 0.5, "mean": [1, 2, 3], "std": [1, 2, 4]})
    np.testing.assert_allclose(found, (image * 0.5 - [1, 2, 3]) / [1, 2, 4])
    assert found.dtype == np.float32
    first = run(image.transpose(2, 0, 1), {"op": "normalise", "mean": [1, 2, 3], "axis": 0})
    np.testing.assert_allclose(first[2], image[:, :, 2] - 3.0)


def test_normalise_of_the_wrong_layout_is_refused():
    with pytest.raises(DataError, match="3 values per channel") as caught:
        run(np.zeros((3, 8, 8)), {"op": "normalise", "mean": [1, 2, 3]})
    assert "axis" in caught.value.hint


def test_scale():
    wave = np.array([-8, 2, 4], np.int16)
    assert run(wave, {"op": "scale", "by": "max"}).tolist() == [-2, 0.5, 1]
    assert run(wave, {"op": "scale", "by": "abs-max"}).tolist() == [-1, 0.25, 0.5]
    assert run(wave, {"op": "scale", "by": 0.5}).tolist() == [-4, 1, 2]
    assert run(np.zeros(3, np.int16), {"op": "scale", "by": "max"}).tolist() == [0, 0, 0]


def test_cast_refuses_what_does_not_fit():
    assert run(np.array([1.7, -2.2]), {"op": "cast", "dtype": "int8"}).tolist() == [1, -2]
    with pytest.raises(DataError, match=r"-128\.\.127"):
        run(np.array([0.0, 200.0]), {"op": "cast", "dtype": "int8"})
    with pytest.raises(ConfigError, match="dtype is one of"):
        Preprocess.from_spec([{"op": "cast", "dtype": "floaty"}], Path())


def test_shapes():
    array = np.arange(6)
    assert run(array, {"op": "reshape", "shape": [2, -1]}).shape == (2, 3)
    assert run(array, {"op": "expand"}).shape == (6, 1)
    assert run(array, {"op": "expand", "axis": 0}).shape == (1, 6)
    assert run(array.reshape(1, 2, 3), {"op": "transpose", "axes": [2, 0, 1]}).shape == (3, 1, 2)


@pytest.mark.parametrize(
    "op", [{"op": "reshape", "shape": [4]}, {"op": "expand", "axis": 5}, {"op": "transpose", "axes": [0, 0]}]
)
def test_shapes_that_do_not_fit_are_refused(op):
    with pytest.raises(DataError):
        run(np.arange(6), op)


@pytest.mark.parametrize(
    ("anchor", "longer", "shorter"),
    [("start", [0, 1, 2], [0, 1, 9, 9]), ("centre", [1, 2, 3], [9, 0, 1, 9]), ("end", [2, 3, 4], [9, 9, 0, 1])],
)
def test_window_cuts_and_fills(anchor, longer, shorter):
    assert run(np.arange(5), {"op": "window", "length": 3, "anchor": anchor}).tolist() == longer
    assert run(np.arange(2), {"op": "window", "length": 4, "anchor": anchor, "pad": 9}).tolist() == shorter
    assert run(np.zeros((2, 7)), {"op": "window", "length": 4, "anchor": anchor}).shape == (4, 7)
