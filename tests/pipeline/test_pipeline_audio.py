import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgewright.errors import ConfigError, DataError
from edgewright.pipeline import Preprocess
from edgewright.pipeline.audio import dct_matrix, mel_filters, resample, taper


def run(value, *ops):
    (array,) = Preprocess.from_spec(ops, Path())(value).tensors.values()
    return array


@pytest.mark.bench
def test_keyword_features_equal_those_of_the_benchmark(bench):
    folder = bench / "kws"
    waves, given = np.load(folder / "kws01_waveforms_int16.npz"), np.load(folder / "kws01_mfcc_int8.npz")
    assert waves["names"].tolist() == given["names"].tolist()
    preprocess = Preprocess.from_spec([{"op": "scale", "by": "max"}, {"op": "mfcc"}, {"op": "expand"}], Path())
    features = np.stack([preprocess(wave).tensors[""] for wave in waves["x"]])
    assert features.dtype == np.float32
    integers = np.trunc(features / np.float32(given["scale"]) + np.float32(given["zero_point"]))
    same = np.clip(integers, -128, 127) == given["x"]
    assert same.mean() >= 0.99


def test_mfcc_equals_the_definition():
    signal = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    found = run(signal, {"op": "mfcc", "frame": 400, "hop": 300, "fft": 512, "coefficients": 13})
    assert found.shape == (3, 13)
    frame = signal[300:700].astype(float) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400))
    spectrum = np.abs(np.fft.rfft(frame, 512))
    mels = np.log(spectrum @ mel_filters(40, 257, 16000, 20.0, 4000.0) + 1e-6)
    k = np.arange(13)
    expected = [np.sum(mels * np.cos(np.pi / 40 * (np.arange(40) + 0.5) * i)) * 2 / np.sqrt(80) for i in k]
    np.testing.assert_allclose(found[1], expected, rtol=2e-4, atol=2e-4)


def test_mfcc_power_and_scale_are_declared():
    signal = np.random.default_rng(0).standard_normal(480).astype(np.float32)
    once = run(signal, {"op": "mfcc", "log_offset": 1e-12})
    squared = run(signal, {"op": "mfcc", "log_offset": 1e-12, "power": 2})
    assert not np.allclose(once, squared)
    doubled = run(signal, {"op": "mfcc", "log_offset": 1e-12, "dct_scale": 2 * 2 / 80**0.5})
    np.testing.assert_allclose(doubled, 2 * once, rtol=1e-5)


def test_mel_filters_are_triangles_that_cover_the_band():
    filters = mel_filters(40, 257, 16000, 20.0, 4000.0)
    hz = np.linspace(0, 8000, 257)
    assert filters.shape == (257, 40)
    assert filters[hz > 4000].max() == 0
    assert filters[0].max() == 0
    assert ((filters >= 0) & (filters <= 1)).all()
    inner = (hz > 200) & (hz < 3700)
    np.testing.assert_allclose(filters[inner].sum(axis=1), 1.0, atol=1e-5)


def test_dct_is_orthonormal_but_for_the_first_row():
    matrix = dct_matrix(40, 40, np.sqrt(2 / 40)).astype(float)
    gram = matrix.T @ matrix
    expected = np.eye(40)
    expected[0, 0] = 2.0
    np.testing.assert_allclose(gram, expected, atol=1e-5)


def test_stft_equals_the_definition():
    signal = np.random.default_rng(1).standard_normal(100).astype(np.float32)
    found = run(signal, {"op": "stft", "frame": 32, "hop": 16, "output": "complex"})
    assert found.shape == (5, 17, 2)
    n = np.arange(32)
    frame = signal[16:48] * taper("hann", 32)
    direct = np.array([np.sum(frame * np.exp(-2j * np.pi * k * n / 32)) for k in range(17)])
    np.testing.assert_allclose(found[1, :, 0] + 1j * found[1, :, 1], direct, atol=1e-4)
    magnitude = run(signal, {"op": "stft", "frame": 32, "hop": 16})
    np.testing.assert_allclose(magnitude[1], np.abs(direct), atol=1e-4)
    power = run(signal, {"op": "stft", "frame": 32, "hop": 16, "output": "power"})
    np.testing.assert_allclose(power, magnitude**2, rtol=1e-4, atol=1e-5)
    log = run(signal, {"op": "stft", "frame": 32, "hop": 16, "output": "log", "log_offset": 0.5})
    np.testing.assert_allclose(log, np.log(magnitude + 0.5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (8000, 16000), (48000, 16000), (16000, 22050)])
def test_resampling_equals_scipy(rate, wanted):
    signal = pytest.importorskip("scipy.signal")
    samples = np.random.default_rng(0).standard_normal(2000)
    divisor = np.gcd(rate, wanted)
    expected = signal.resample_poly(samples, wanted // divisor, rate // divisor)
    found = resample(samples, rate, wanted)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_resampling_keeps_a_tone_and_removes_what_does_not_fit():
    seconds = np.arange(44100) / 44100
    tone = resample(np.sin(2 * np.pi * 1000 * seconds), 44100, 16000)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(tone[200:-200] - expected[200:-200]).max() < 0.01
    gone = resample(np.sin(2 * np.pi * 12000 * seconds), 44100, 16000)
    assert np.abs(gone[200:-200]).max() < 0.01


def wav(samples, rate=16000, kind="WAV"):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind)
    return buffer.getvalue()


def test_sound_is_decoded_to_mono(tmp_path):
    samples = (np.random.default_rng(0).uniform(-0.5, 0.5, (800, 2))).astype(np.float32)
    decode = {"op": "decode", "sample_rate": 16000}
    found = run(wav(samples), decode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-4)
    (tmp_path / "a.wav").write_bytes(wav(samples))
    assert np.array_equal(run(tmp_path / "a.wav", decode), found)
    assert run(wav(samples, 8000), decode).shape == (1600,)


def test_sound_arrays_are_scaled_by_their_type():
    found = run(np.array([0, 16384, -32768], np.int16), {"op": "decode", "sample_rate": 16000})
    assert found.tolist() == [0, 0.5, -1]


@pytest.mark.parametrize("value", [b"RIFF....", b"", np.zeros((2, 2, 2), np.int16), "/nowhere/a.wav", 3])
def test_what_is_no_sound_is_refused(value):
    with pytest.raises(DataError):
        run(value, {"op": "decode", "sample_rate": 16000})


def test_an_empty_recording_is_refused():
    with pytest.raises(DataError, match="no samples"):
        run(wav(np.zeros(0, np.float32)), {"op": "decode", "sample_rate": 16000})


def test_a_short_signal_is_refused_with_the_fix():
    with pytest.raises(DataError, match="at least 480 samples") as caught:
        run(np.zeros(100, np.float32), {"op": "mfcc"})
    assert "window" in caught.value.hint
    filled = run(np.zeros(100, np.float32), {"op": "window", "length": 16000}, {"op": "mfcc"})
    assert filled.shape == (49, 10)


@pytest.mark.parametrize(
    "fields",
    [{"fft": 256}, {"high_hz": 9000}, {"coefficients": 41}, {"hop": 0}, {"window": "kaiser"}, {"power": 3}],
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(ConfigError, match="mfcc"):
        Preprocess.from_spec([{"op": "mfcc", **fields}], Path())
