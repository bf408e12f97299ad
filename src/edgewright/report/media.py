"""Raw samples as something a page can show: a picture, a sound with its waveform, curves, or text.

What a sample is, is read from its value: the magic bytes of a file, else the shape and type of an array. A string is
always text, never a path: a line of a text data set must not be able to pull a file of this machine into a report.
"""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PICTURE_EDGE = 420
PIXELATED_BELOW = 96
TEXT_LIMIT = 600
SOUND_SECONDS = 10
ASSUMED_RATE = 16_000
MAX_FILE_BYTES = 64_000_000
WAVE_WIDTH, WAVE_HEIGHT = 300, 64
_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True, slots=True)
class Media:
    """One sample, ready for the page.

    Attributes:
        kind: `picture`, `sound`, `curves` or `text`.
        uri: A `data:` URI of the picture or sound; empty otherwise.
        width: Of the original picture in pixels, or of the curves' drawing.
        height: The same.
        pixelated: Small pictures are enlarged without smoothing.
        paths: SVG path data of the waveform or the curves.
        text: What is shown for text, and the caption otherwise.
    """

    kind: str
    uri: str = ""
    width: int = 0
    height: int = 0
    pixelated: bool = False
    paths: tuple[str, ...] = ()
    text: str = ""


def show(value: Any, rate: int | None = None) -> Media:
    """Turns the raw value of a sample into media; anything unknown becomes a short text that says what it is.

    Args:
        value: As in `Sample.value`: encoded bytes, a path, an array, a string or a mapping.
        rate: Samples per second of sounds given as bare arrays; 16 kHz is assumed, and said, without it.
    """
    if isinstance(value, Path):
        return _file(value, rate)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _encoded(bytes(value), rate)
    if isinstance(value, np.ndarray):
        return _array(value, rate)
    if isinstance(value, Mapping):
        return _mapping(value, rate)
    return Media("text", text=_short(value if isinstance(value, str) else repr(value)))


def _file(path: Path, rate: int | None) -> Media:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            return Media("text", text=f"{path.name}: too large to show")
        data = path.read_bytes()
    except (OSError, ValueError):
        return Media("text", text=_short(str(path)))
    return _encoded(data, rate)


def _mapping(value: Mapping[Any, Any], rate: int | None) -> Media:
    found_rate = value.get("rate", value.get("sample_rate", rate))
    for key in ("image", "samples", "audio", "text", "value"):
        if key in value:
            return show(value[key], int(found_rate) if isinstance(found_rate, (int, np.integer)) else rate)
    return Media("text", text=_short("\n".join(f"{k}: {_brief(v)}" for k, v in value.items())))


def _brief(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else _short(str(value), 120)


def _short(text: str, limit: int = TEXT_LIMIT) -> str:
    return text if len(text) <= limit else text[:limit] + " [...]"


def _encoded(data: bytes, rate: int | None) -> Media:
    if data.startswith(_PICTURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
        return _decoded_picture(data)
    if (data[:4] == b"RIFF" and data[8:12] == b"WAVE") or data.startswith((b"fLaC", b"OggS")):
        return _decoded_sound(data)
    return Media("text", text=f"{len(data)} bytes of an unknown format")


def _decoded_picture(data: bytes) -> Media:
    try:
        import cv2
    except ImportError:
        return Media("text", text='a picture; pip install "edgewright[image]" shows it')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    return Media("text", text="a picture that cannot be decoded") if image is None else picture(image[..., ::-1])


def picture(image: NDArray[Any]) -> Media:
    """Embeds an image.

    Args:
        image: [height, width], or [height, width, 1 | 3 | 4] in RGB order. Anything but uint8 is stretched from its
            smallest to its largest value.
    """
    try:
        import cv2
    except ImportError:
        return Media("text", text='a picture; pip install "edgewright[image]" shows it')
    pixels: NDArray[Any] = _to_bytes(image)
    height, width = pixels.shape[:2]
    edge = max(height, width)
    if edge > PICTURE_EDGE:
        size = (max(1, width * PICTURE_EDGE // edge), max(1, height * PICTURE_EDGE // edge))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    small = edge < PIXELATED_BELOW
    encoding = (".png", []) if small else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 84])
    bgr = np.ascontiguousarray(pixels[..., :3][..., ::-1]) if pixels.ndim == 3 else pixels
    done, data = cv2.imencode(encoding[0], bgr, encoding[1])
    if not done:
        return Media("text", text="a picture that cannot be encoded")
    uri = _uri("image/png" if small else "image/jpeg", data.tobytes())
    return Media("picture", uri=uri, width=width, height=height, pixelated=small, text=f"{width} x {height} pixels")


def _to_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8:
        return image
    finite = np.nan_to_num(image.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    return np.asarray(255 * (finite - low) / max(high - low, 1e-12), np.uint8)


def _array(value: NDArray[Any], rate: int | None) -> Media:
    if value.size == 0 or not (np.issubdtype(value.dtype, np.number) or value.dtype == np.bool_):
        return Media("text", text=_short(str(value.tolist())))
    squeezed = value[0] if value.ndim > 1 and value.shape[0] == 1 else value
    if squeezed.ndim == 1 and (squeezed.dtype == np.int16 or squeezed.size >= 4000):
        return sound(squeezed, rate)
    if squeezed.ndim == 3 and squeezed.shape[2] not in (1, 3, 4) and squeezed.shape[0] in (1, 3, 4):
        squeezed = np.moveaxis(squeezed, 0, 2)
    if squeezed.ndim == 3 and squeezed.shape[2] in (1, 3, 4):
        return picture(squeezed)
    if squeezed.ndim == 2 and not _looks_like_series(squeezed):
        return picture(squeezed)
    return curves(squeezed) if squeezed.ndim in (1, 2) else Media("text", text=f"{value.dtype}{list(value.shape)}")


def _looks_like_series(array: NDArray[Any]) -> bool:
    return bool(min(array.shape) <= 9 and max(array.shape) >= 4 * min(array.shape))


def _decoded_sound(data: bytes) -> Media:
    try:
        with wave.open(io.BytesIO(data)) as file:
            if file.getsampwidth() == 2:
                raw = np.frombuffer(file.readframes(file.getframerate() * SOUND_SECONDS), "<i2")
                return sound(raw.reshape(-1, file.getnchannels())[:, 0], file.getframerate())
    except (wave.Error, EOFError):
        pass
    try:
        import soundfile
    except (ImportError, OSError):
        return Media("text", text='a sound; pip install "edgewright[audio]" shows it')
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="int16", always_2d=True)
    except RuntimeError:
        return Media("text", text="a sound that cannot be decoded")
    return sound(samples[:, 0], int(rate))


def sound(samples: NDArray[Any], rate: int | None = None) -> Media:
    """Embeds a mono sound as 16-bit WAV with its waveform, at most ten seconds of it.

    Args:
        samples: [n], int16 or float in [-1, 1]; louder floats are scaled down to fit.
        rate: Samples per second.
    """
    used = rate or ASSUMED_RATE
    pcm = _to_pcm(samples[: used * SOUND_SECONDS])
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(used)
        file.writeframes(pcm.astype("<i2").tobytes())
    caption = f"{samples.size / used:.2f} s at {used} Hz" + ("" if rate else " (rate assumed)")
    if samples.size > used * SOUND_SECONDS:
        caption += f", first {SOUND_SECONDS} s"
    uri = _uri("audio/wav", buffer.getvalue())
    return Media("sound", uri, WAVE_WIDTH, WAVE_HEIGHT, paths=(_waveform(pcm),), text=caption)


def _to_pcm(samples: NDArray[Any]) -> NDArray[np.int16]:
    if samples.dtype == np.int16:
        return samples
    finite = np.nan_to_num(samples.astype(np.float64))
    peak = float(np.abs(finite).max()) if finite.size else 0.0
    return np.asarray(32767 * finite / max(peak, 1.0), np.int16)


def _waveform(pcm: NDArray[np.int16]) -> str:
    bins = [part for part in np.array_split(pcm.astype(np.float64) / 32768, WAVE_WIDTH) if part.size]
    peak = max((float(np.abs(part).max()) for part in bins), default=0.0) or 1.0
    middle = WAVE_HEIGHT / 2
    tops = [f"{x},{middle - middle * float(part.max()) / peak:.1f}" for x, part in enumerate(bins)]
    bottoms = [f"{x},{middle - middle * float(part.min()) / peak:.1f}" for x, part in enumerate(bins)]
    return f"M{' L'.join(tops + bottoms[::-1])} Z" if bins else ""


def curves(values: NDArray[Any]) -> Media:
    """Draws up to six channels of [time] or [time, channels] (the longer axis is time) on one scale."""
    table = values[:, None] if values.ndim == 1 else values
    table = table.T if table.shape[0] < table.shape[1] else table
    shown = np.nan_to_num(table[:, :6].astype(np.float64))
    low, high = float(shown.min()), float(shown.max())
    unit = (shown - low) / max(high - low, 1e-12)
    times = np.linspace(0, WAVE_WIDTH, len(unit))
    every = max(1, len(unit) // 240)
    paths = []
    for channel in unit.T:
        points = [f"{t:.1f},{WAVE_HEIGHT * (1 - v):.1f}" for t, v in zip(times[::every], channel[::every], strict=True)]
        paths.append("M" + " L".join(points))
    caption = f"{table.shape[0]} steps, {table.shape[1]} channels, {low:.3g} to {high:.3g}"
    return Media("curves", width=WAVE_WIDTH, height=WAVE_HEIGHT, paths=tuple(paths), text=caption)


def mask_picture(mask: NDArray[Any]) -> Media:
    """Draws a segmentation mask, one colour per class; class 0 is dark."""
    classes = mask.astype(np.int64)
    hue = (classes * 137) % 360
    red, green, blue = (np.abs((hue / 60 + shift) % 6 - 3) - 1 for shift in (0, 4, 2))
    colours = 60 + 180 * np.clip(np.stack([red, green, blue], axis=-1), 0, 1)
    return picture(np.where(classes[..., None] == 0, 24, colours).astype(np.uint8))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
