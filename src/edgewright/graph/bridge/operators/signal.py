"""Spectra and the windows that go with them; complex numbers are pairs on the last axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edgewright.graph.bridge.elements import torch_dtype
from edgewright.graph.bridge.operators.values import Ints, ints


def dft(
    x: Tensor,
    dft_length: Ints | None = None,
    axis: Ints | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
    opset: int,
) -> Tensor:
    """Along the axis before the last unless named (axis 1 before opset 20)."""
    along = (1 if opset < 20 else -2) if axis is None else ints(axis)[0]
    along = along + x.dim() if along < 0 else along
    length = None if dft_length is None else ints(dft_length)[0]
    if inverse and onesided:
        real: Tensor = torch.fft.irfft(_complex(x), length, along)
        return real.unsqueeze(-1)
    if inverse:
        return torch.view_as_real(torch.fft.ifft(_complex(x), length, along))
    if onesided:
        return torch.view_as_real(torch.fft.rfft(x[..., 0], length, along))
    return torch.view_as_real(torch.fft.fft(_complex(x), length, along))


def stft(
    signal: Tensor,
    frame_step: Ints,
    window: Tensor | None = None,
    frame_length: Ints | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Of [batch, length, 1 or 2], without padding: [batch, frames, bins, 2]."""
    length = window.shape[0] if window is not None else ints(frame_length if frame_length is not None else 0)[0]
    frames = _complex(signal).unfold(1, length, ints(frame_step)[0])
    frames = frames if window is None else frames * window
    if onesided:
        return torch.view_as_real(torch.fft.rfft(frames.real if frames.is_complex() else frames))
    return torch.view_as_real(torch.fft.fft(frames))


def hann_window(size: Ints, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _cosines((0.5, 0.5), size, output_datatype, periodic)


def hamming_window(size: Ints, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _cosines((25 / 46, 21 / 46), size, output_datatype, periodic)


def blackman_window(size: Ints, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    return _cosines((0.42, 0.5, 0.08), size, output_datatype, periodic)


def _complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x[..., 0]


def _cosines(terms: tuple[float, ...], size: Ints, kind: int, periodic: int) -> Tensor:
    count = ints(size)[0]
    device = size.device if isinstance(size, Tensor) else None
    phase = torch.arange(count, dtype=torch.float64, device=device) * (2 * math.pi / (count if periodic else count - 1))
    parts = [term * (-1) ** i * torch.cos(i * phase) for i, term in enumerate(terms)]
    return torch.stack(parts).sum(0).to(torch_dtype(kind))


OPERATORS: dict[str, Callable[..., Any]] = {
    "BlackmanWindow": blackman_window,
    "DFT": dft,
    "HammingWindow": hamming_window,
    "HannWindow": hann_window,
    "STFT": stft,
}
