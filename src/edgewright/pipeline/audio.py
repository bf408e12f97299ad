"""Operations on sound: decoding and resampling, short-time Fourier transform, mel-frequency cepstral coefficients."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgewright.errors import DataError, ToolchainMissing
from edgewright.pipeline.item import Item, array_of

Taper = Literal["hann", "hamming", "rectangular"]


def decode_audio(value: Any, sample_rate: int) -> NDArray[np.float32]:
    """Returns sound as mono float32 [samples] in -1..1 at `sample_rate`.

    Args:
        value: Encoded bytes (WAV, FLAC, OGG), a path, or an array: int16, int32 or float samples that are at
            `sample_rate` already, [samples] or [samples, channels].
        sample_rate: Samples per second wanted.

    Raises:
        DataError: The bytes hold no sound.
        ToolchainMissing: soundfile is not installed.
    """
    if isinstance(value, np.ndarray):
        return _mono(value)
    if not isinstance(value, (bytes, bytearray, memoryview, str, Path)):
        raise DataError(
            f"decode takes encoded bytes, a path or an array of samples, got {type(value).__name__}",
            hint="remove decode from the list if the data is not made of images or sound",
        )
    try:
        import soundfile
    except ImportError as error:
        message = "reading sound files needs soundfile, which is not installed"
        raise ToolchainMissing(message, hint='pip install "edgewright[audio]"') from error
    source = io.BytesIO(value) if isinstance(value, (bytes, bytearray, memoryview)) else str(value)
    try:
        samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        hint = "give WAV, FLAC or OGG files, or remove this one from the data"
        raise DataError(f"cannot decode sound: {error}", hint=hint) from error
    if len(samples) == 0:
        raise DataError("the sound file holds no samples", hint="remove it from the data, or record it again")
    return resample(samples.mean(axis=1), rate, sample_rate)


def _mono(value: NDArray[Any]) -> NDArray[np.float32]:
    if value.dtype.kind not in "if" or value.ndim not in (1, 2):
        raise DataError(
            f"decode takes sound as int16, int32 or float [samples] or [samples, channels], "
            f"got {value.dtype} {list(value.shape)}",
            hint="remove decode from the list if the arrays are ready for the model",
        )
    samples = value.astype(np.float32)
    if value.dtype.kind == "i":
        samples /= -float(np.iinfo(value.dtype).min)
    return samples.mean(axis=1) if samples.ndim == 2 else samples


def resample(samples: NDArray[Any], rate: int, wanted: int) -> NDArray[np.float32]:
    """Returns `samples` at another rate, band-limited.

    Polyphase filtering with a windowed sinc (Kaiser window, beta 5, 10 zero crossings each side), the design of
    `scipy.signal.resample_poly`. Output length: ceil(samples x wanted / rate).
    """
    if rate == wanted:
        return samples.astype(np.float32, copy=False)
    divisor = math.gcd(rate, wanted)
    up, down = wanted // divisor, rate // divisor
    half = 10 * max(up, down)
    taps = _sinc_filter(up, down, half)
    count = -(-len(samples) * up // down)
    reach = half // up + 1
    padded = np.pad(samples.astype(np.float64), reach + 1)
    output = np.arange(count, dtype=np.int64) * down
    result = np.zeros(count)
    first = -(-(output - half) // up)
    for step in range(2 * reach):
        at = first + step
        tap = output - at * up + half
        inside = (tap >= 0) & (tap <= 2 * half) & (at > -reach - 1) & (at < len(samples) + reach)
        result[inside] += taps[tap[inside]] * padded[at[inside] + reach + 1]
    return result.astype(np.float32)


@lru_cache(maxsize=8)
def _sinc_filter(up: int, down: int, half: int) -> NDArray[np.float64]:
    cutoff = 1.0 / max(up, down)
    at = np.arange(-half, half + 1)
    taps = cutoff * np.sinc(cutoff * at) * np.kaiser(2 * half + 1, 5.0)
    return np.asarray(taps / taps.sum() * up, np.float64)


def frames(signal: NDArray[Any], length: int, hop: int) -> NDArray[Any]:
    """Returns whole frames as a view, [frames, length]; a rest that fills no frame is left out.

    Raises:
        DataError: The signal is not one-dimensional, or shorter than one frame.
    """
    if signal.ndim != 1 or len(signal) < length:
        raise DataError(
            f"expected a signal of at least {length} samples, got an array {list(signal.shape)}",
            hint='put { op = "window", length = ... } before it to fill short recordings',
        )
    return np.lib.stride_tricks.sliding_window_view(signal, length)[::hop]


@lru_cache(maxsize=8)
def taper(name: str, length: int) -> NDArray[np.float32]:
    """Returns a periodic window function, as spectral analysis uses."""
    if name == "rectangular":
        return np.ones(length, np.float32)
    first = 0.5 if name == "hann" else 0.54
    angle = 2 * np.pi * np.arange(length) / length
    return np.asarray(first - (1 - first) * np.cos(angle), np.float32)


@lru_cache(maxsize=8)
def mel_filters(bands: int, bins: int, sample_rate: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Returns triangular filters [bins, bands] on the HTK mel scale, mel = 1127 ln(1 + hz / 700).

    The triangles are straight in mel, not in hertz, and the bin of 0 Hz is left out, as in
    `tf.signal.linear_to_mel_weight_matrix`.
    """
    mel = 1127.0 * np.log1p(np.linspace(0.0, sample_rate / 2, bins)[1:] / 700.0)[:, None]
    edges = np.linspace(1127.0 * math.log1p(low_hz / 700.0), 1127.0 * math.log1p(high_hz / 700.0), bands + 2)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    slopes = np.minimum((mel - lower) / (centre - lower), (upper - mel) / (upper - centre))
    return np.vstack([np.zeros((1, bands)), np.maximum(slopes, 0.0)]).astype(np.float32)


@lru_cache(maxsize=8)
def dct_matrix(bands: int, coefficients: int, scale: float) -> NDArray[np.float32]:
    """Returns the type II discrete cosine transform as a matrix [bands, coefficients], times `scale`."""
    angle = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    return np.asarray(np.cos(angle) * scale, np.float32)


@dataclass(frozen=True, slots=True)
class Stft:
    """Short-time Fourier transform: float32 [frames, fft / 2 + 1].

    Attributes:
        frame: Samples per frame.
        hop: Samples from one frame to the next.
        fft: Length of the transform, at least `frame`; 0 means `frame`.
        window: Periodic window function.
        output: `magnitude`, `power`, `log` (ln(magnitude + log_offset)), or `complex`: [frames, bins, 2].
        log_offset: Added before the logarithm.
    """

    op: ClassVar[str] = "stft"
    files: ClassVar[tuple[str, ...]] = ()
    frame: int
    hop: int
    fft: int = 0
    window: Taper = "hann"
    output: Literal["magnitude", "power", "log", "complex"] = "magnitude"
    log_offset: float = 1e-6

    def __post_init__(self) -> None:
        _check_frames(self.frame, self.hop, self.fft or self.frame)

    def __call__(self, item: Item) -> Item:
        signal = array_of(item, self.op).astype(np.float32, copy=False)
        cut = frames(signal, self.frame, self.hop) * taper(self.window, self.frame)
        spectrum = np.fft.rfft(cut, self.fft or self.frame, axis=-1)
        if self.output == "complex":
            return item.with_value(np.stack([spectrum.real, spectrum.imag], axis=-1).astype(np.float32))
        magnitude = np.abs(spectrum)
        if self.output == "power":
            magnitude = magnitude**2
        elif self.output == "log":
            magnitude = np.log(magnitude + self.log_offset)
        return item.with_value(magnitude.astype(np.float32))


@dataclass(frozen=True, slots=True)
class Mfcc:
    """Mel-frequency cepstral coefficients: float32 [frames, coefficients].

    The defaults are those of the MLPerf Tiny keyword-spotting reference (16 kHz, 30 ms frames, 20 ms hop).

    Attributes:
        sample_rate: Samples per second of the signal.
        frame: Samples per frame.
        hop: Samples from one frame to the next.
        fft: Length of the transform, at least `frame`.
        window: Periodic window function.
        mel_bands: Triangular filters between `low_hz` and `high_hz`.
        low_hz: Lowest frequency.
        high_hz: Highest frequency.
        power: 1 filters the magnitude, 2 the power spectrum.
        log_offset: Added before the natural logarithm.
        dct_scale: Factor of the DCT-II; 0 means sqrt(2 / mel_bands), as in `tf.signal`.
        coefficients: How many are kept, from the 0th.
    """

    op: ClassVar[str] = "mfcc"
    files: ClassVar[tuple[str, ...]] = ()
    sample_rate: int = 16000
    frame: int = 480
    hop: int = 320
    fft: int = 512
    window: Taper = "hann"
    mel_bands: int = 40
    low_hz: float = 20.0
    high_hz: float = 4000.0
    power: Literal[1, 2] = 1
    log_offset: float = 1e-6
    dct_scale: float = 0.0
    coefficients: int = 10

    def __post_init__(self) -> None:
        _check_frames(self.frame, self.hop, self.fft)
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise ValueError(f"0 <= low_hz < high_hz <= {self.sample_rate / 2:g} (half the sample rate) is required")
        if not 1 <= self.coefficients <= self.mel_bands:
            raise ValueError(f"coefficients lies in 1..mel_bands ({self.mel_bands}), got {self.coefficients}")

    def __call__(self, item: Item) -> Item:
        signal = array_of(item, self.op).astype(np.float32, copy=False)
        cut = frames(signal, self.frame, self.hop) * taper(self.window, self.frame)
        spectrum = np.abs(np.fft.rfft(cut, self.fft, axis=-1)).astype(np.float32)
        if self.power == 2:
            spectrum = spectrum * spectrum
        mel = mel_filters(self.mel_bands, self.fft // 2 + 1, self.sample_rate, self.low_hz, self.high_hz)
        logarithm = np.log(spectrum @ mel + np.float32(self.log_offset))
        scale = self.dct_scale or math.sqrt(2.0 / self.mel_bands)
        return item.with_value(logarithm @ dct_matrix(self.mel_bands, self.coefficients, scale))


def _check_frames(frame: int, hop: int, fft: int) -> None:
    if frame < 1 or hop < 1 or fft < frame:
        raise ValueError(f"frame and hop are at least 1 and fft at least frame, got {frame}, {hop}, {fft}")
