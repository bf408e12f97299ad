"""Weights in 4 or 8 bits, one scale and zero point per block of inputs: real = scale x (integer - zero point).

The layout is that of ONNX Runtime's `MatMulNBits` (com.microsoft contributed operators): blocks along the input
axis K of a matrix [K, N], two 4-bit integers to a byte, the low half first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SMALLEST = 1e-12
DAMPING = 0.01
"""Share of the mean diagonal added to a Hessian before it is inverted (Frantar et al. 2022, section 3.3)."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A quantised matrix.

    Attributes:
        integers: [K, N], 0 to 2^bits - 1.
        scale: [blocks, N], float32.
        zero_point: [blocks, N], 0 to 2^bits - 1.
        bits: 4 or 8.
        size: Inputs per block; the last block may be shorter.
    """

    integers: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.uint8]
    bits: int
    size: int

    def real(self) -> NDArray[np.float32]:
        """Returns the matrix [K, N] that the integers stand for."""
        block = np.arange(self.integers.shape[0]) // self.size
        shifted = self.integers.astype(np.float32) - self.zero_point[block].astype(np.float32)
        return np.asarray(shifted * self.scale[block], np.float32)

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
        """Returns B [N, blocks, bytes per block], scales [N, blocks] and zero points [N, bytes] of `MatMulNBits`."""
        inputs, outputs = self.integers.shape
        blocks = self.scale.shape[0]
        padded = np.zeros((blocks * self.size, outputs), np.uint8)
        padded[:inputs] = self.integers
        columns = padded.T.reshape(outputs, blocks, self.size)
        return _pack(columns, self.bits), np.ascontiguousarray(self.scale.T), _pack(self.zero_point.T, self.bits)


def round_to_nearest(weights: NDArray[Any], bits: int, size: int) -> Blocks:
    """Quantises a matrix [K, N] block by block over its extremes, each value to the nearest step."""
    weights = np.asarray(weights, np.float64)
    blocks = -(-weights.shape[0] // size)
    integers = np.empty(weights.shape, np.uint8)
    scale = np.empty((blocks, weights.shape[1]), np.float32)
    zero = np.empty((blocks, weights.shape[1]), np.uint8)
    for block in range(blocks):
        rows = slice(block * size, (block + 1) * size)
        scale[block], zero[block] = _parameters(weights[rows], bits)
        integers[rows] = _nearest(weights[rows], scale[block], zero[block], bits)
    return Blocks(integers, scale, zero, bits, size)


def gptq(weights: NDArray[Any], gram: Floats, bits: int, size: int) -> Blocks:
    """Quantises a matrix [K, N] one input after another, each time correcting the inputs still to come.

    Frantar et al. 2022, "GPTQ: Accurate post-training quantization for generative pre-trained transformers",
    algorithm 1, with the scales of a block taken when it is reached.

    Args:
        weights: [K, N].
        gram: [K, K], sum of x x^T over the inputs x that the matrix is multiplied with.
        bits: 4 or 8.
        size: Inputs per block.
    """
    left = np.array(weights, np.float64)
    factor = _inverse_factor(gram, left)
    blocks = -(-left.shape[0] // size)
    integers = np.empty(left.shape, np.uint8)
    scale = np.empty((blocks, left.shape[1]), np.float32)
    zero = np.empty((blocks, left.shape[1]), np.uint8)
    for block in range(blocks):
        start, stop = block * size, min((block + 1) * size, left.shape[0])
        scale[block], zero[block] = _parameters(left[start:stop], bits)
        errors = np.empty((stop - start, left.shape[1]))
        for row in range(start, stop):
            integers[row] = _nearest(left[row], scale[block], zero[block], bits)
            found = (integers[row].astype(np.float64) - zero[block]) * scale[block]
            errors[row - start] = (left[row] - found) / factor[row, row]
            left[row + 1 : stop] -= np.outer(factor[row, row + 1 : stop], errors[row - start])
        left[stop:] -= factor[start:stop, stop:].T @ errors
    return Blocks(integers, scale, zero, bits, size)


def _inverse_factor(gram: Floats, weights: Floats) -> Floats:
    """Returns the upper Cholesky factor of the inverse Hessian; inputs that are always zero lose their weights."""
    hessian = np.array(gram, np.float64)
    dead = np.diag(hessian) <= 0
    hessian[dead, dead] = 1.0
    weights[dead] = 0.0
    hessian[np.diag_indices_from(hessian)] += DAMPING * np.mean(np.diag(hessian))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(hessian)).T)


def _parameters(block: Floats, bits: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    low, high = np.minimum(block.min(axis=0), 0.0), np.maximum(block.max(axis=0), 0.0)
    scale = np.maximum((high - low) / (2**bits - 1), SMALLEST).astype(np.float32)
    return scale, np.clip(np.rint(-low / scale), 0, 2**bits - 1).astype(np.uint8)


def _nearest(values: Floats, scale: NDArray[Any], zero: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(values / scale) + zero, 0, 2**bits - 1), np.uint8)


def _pack(integers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Packs the last axis."""
    if bits == 8:
        return np.ascontiguousarray(integers)
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros((*integers.shape[:-1], 1), np.uint8)], axis=-1)
    return np.ascontiguousarray(integers[..., 0::2] | (integers[..., 1::2] << 4))
