import cv2
import numpy as np
import pytest

from edgewright.data import calibration_warnings, data_spec, open_spec
from edgewright.data.doubts import looks_random


def photo(seed, size=32):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (4, 4, 3), np.uint8)
    return cv2.resize(small, (size, size))


def warnings_of(root, calibration, test=None, y=None, test_y=None, **fields):
    splits = {}
    for name, x, labels in (("calibration", calibration, y), ("test", test, test_y)):
        if x is not None:
            np.savez(root / f"{name}.npz", x=x, y=np.zeros(len(x), int) if labels is None else labels)
            splits[name] = {"reader": "npz", "path": f"{name}.npz"}
    return calibration_warnings(open_spec(data_spec(root, splits, **fields)))


@pytest.fixture(scope="module")
def photos():
    return np.stack([photo(i) for i in range(240)])


def test_real_data_raise_no_doubt(tmp_path, photos):
    y = np.arange(120) % 3
    assert warnings_of(tmp_path, photos[:120], photos[120:], y, y) == ()


def test_without_calibration_there_is_nothing_to_say(tmp_path, photos):
    assert warnings_of(tmp_path, None, photos[:10]) == ()


def test_few_samples(tmp_path, photos):
    (warning,) = warnings_of(tmp_path, photos[:20])
    assert "20 samples" in warning


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("uniform", lambda rng: rng.integers(0, 256, (120, 16, 16, 3), np.uint8)),
        ("uniform", lambda rng: rng.random((120, 1000), np.float32)),
        ("normal", lambda rng: rng.standard_normal((120, 3, 16, 16)).astype(np.float32)),
        ("normal", lambda rng: (rng.standard_normal((120, 64)) * 3 + 7).astype(np.float32)),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_noise_is_recognised(tmp_path, kind, make, seed):
    found = warnings_of(tmp_path, make(np.random.default_rng(seed)))
    assert found == (f"the calibration samples look like random numbers ({kind}); calibrate with real data",)


def test_real_features_without_neighbourhood_are_no_noise():
    rng = np.random.default_rng(0)
    typical = rng.standard_normal(64)
    assert looks_random([typical + rng.standard_normal(64) for _ in range(100)]) == ""
    assert looks_random([np.cumsum(rng.standard_normal(500)) for _ in range(100)]) == ""
    assert looks_random([rng.standard_normal(64) for _ in range(100)]) == "normal"
    assert looks_random([rng.standard_normal(64 + i) for i in range(100)]) == ""
    assert looks_random([rng.integers(0, 9, 64) for _ in range(100)]) == ""


def test_encoded_noise_is_recognised_after_decoding(tmp_path):
    (tmp_path / "img").mkdir()
    rng = np.random.default_rng(0)
    for i in range(100):
        cv2.imwrite(str(tmp_path / "img" / f"{i:03}.png"), rng.integers(0, 256, (16, 16, 3), np.uint8))
    table = {"calibration": {"reader": "images", "path": "img"}}
    (warning,) = calibration_warnings(open_spec(data_spec(tmp_path, table, preprocess=[{"op": "decode"}])))
    assert "random numbers" in warning


def test_one_sample_over_and_over(tmp_path, photos):
    (warning,) = warnings_of(tmp_path, np.repeat(photos[:1], 120, axis=0))
    assert warning == "of 100 calibration samples only 1 differ"


def test_skewed_classes(tmp_path, photos):
    even, skewed = np.arange(120) % 4, np.array([0] * 90 + [1, 2, 3] * 10)
    (warning,) = warnings_of(tmp_path, photos[:120], photos[120:], skewed, even, labels=["ant", "bee", "cat", "dog"])
    assert "ant makes up 75% of it and 25%" in warning
    drawn = np.random.default_rng(0).integers(0, 4, 120)
    assert warnings_of(tmp_path, photos[:120], photos[120:], drawn, even) == ()


def test_skewed_inputs(tmp_path, photos):
    (warning,) = warnings_of(tmp_path, photos[:120] // 2 + 127, photos[120:])[:1]
    assert "mean" in warning
    found = warnings_of(tmp_path, photos[:120].astype(np.float32), (photos[120:].astype(np.float32) - 127) * 3 + 127)
    assert any("spread" in warning for warning in found)


@pytest.mark.bench
@pytest.mark.slow
def test_the_benchmark_data_are_not_doubted(bench):
    kws = {
        "reader": "npz",
        "path": "kws/kws01_waveforms_int16.npz",
        "calibration": {"rows": "0:100"},
        "test": {"rows": "100:1000"},
    }
    fashion = {
        "reader": "npz",
        "shuffle": 0,
        "path": "fashion_mnist/fashion_mnist_train.npz",
        "calibration": {"rows": "0:500"},
        "test": {"path": "fashion_mnist/fashion_mnist_test.npz"},
    }
    for table in (kws, fashion):
        assert calibration_warnings(open_spec(data_spec(bench, table))) == ()
    ordered = {**fashion, "calibration": {"rows": "0:500", "shuffle": None}}
    ordered["calibration"].pop("shuffle")
    ordered.pop("shuffle")
    assert any("classes" in warning for warning in calibration_warnings(open_spec(data_spec(bench, ordered))))
